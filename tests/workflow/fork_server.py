"""Starts of Snakemake that share its imports, which take longer than reading this workflow does.

A process imports Snakemake and waits; each start is a fork of it: a process of its own, with working directory,
environment, command line and output of its own, whose Snakemake has done nothing before.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Dict, List, Mapping, Optional

#: The process that waits. Each line that it reads is a start; it answers with the exit code.
_SERVER = """
import json, os, sys
from snakemake import cli
for line in sys.stdin:
    start = json.loads(line)
    pid = os.fork()
    if pid == 0:
        break
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
os.setsid()
os.chdir(start["folder"])
os.environ.clear()
os.environ.update(start["environment"])
for number, name in enumerate((os.devnull, *start["outputs"])):
    os.dup2(os.open(name, os.O_WRONLY | os.O_TRUNC if number else os.O_RDONLY), number)
sys.argv = [cli.__file__, *start["arguments"]]
cli.main()
"""
_servers: Dict[str, subprocess.Popen[str]] = {}


def run(
    command: List[str], folder: Path, environment: Mapping[str, str], limit_s: float
) -> subprocess.CompletedProcess[str]:
    """What `python -m snakemake …` ends with.

    Args:
        command: of the form above.
        folder: working directory.
        environment: of the process, complete.
        limit_s: longest time until it ends.
    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    python, *module = command[:3]
    assert module == ["-m", "snakemake"]
    with tempfile.NamedTemporaryFile("r") as stdout, tempfile.NamedTemporaryFile("r") as stderr:
        start = {
            "folder": str(folder),
            "environment": dict(environment),
            "arguments": command[3:],
            "outputs": [stdout.name, stderr.name],
        }
        code = _ask(python, json.dumps(start), limit_s)
        if code is None:
            raise subprocess.TimeoutExpired(command, limit_s, stdout.read(), stderr.read())
        return subprocess.CompletedProcess(command, code, stdout.read(), stderr.read())


def _ask(python: str, line: str, limit_s: float) -> Optional[int]:
    """The exit code of a start; None: it was killed after `limit_s` seconds."""
    server = _server(python)
    assert server.stdin is not None and server.stdout is not None
    pid = None
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid or server.pid, signal.SIGKILL)

    try:
        server.stdin.write(line + "\n")
        server.stdin.flush()
        pid = int(server.stdout.readline())
        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            code = int(server.stdout.readline())
        finally:
            timer.cancel()
    except BaseException:
        # A test that ran out of time, for one; the next start asks another server.
        end()
        server.kill()
        raise
    return None if late.is_set() else code


def _server(python: str) -> subprocess.Popen[str]:
    server = _servers.get(python)
    if server is None or server.poll() is not None:
        server = subprocess.Popen(
            [python, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        _servers[python] = server
        atexit.register(server.kill)
    return server
