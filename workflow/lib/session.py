"""One run of Snakemake: its lock, and what it says when a program failed."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Dict, List, NamedTuple, Optional

LOCK_FILE = ".stdc.lock"


class Failure(NamedTuple):
    """A rule that failed, as Snakemake's own log tells it."""

    rule: str
    log: str
    exit_code: Optional[int]
    message: str = ""


def interpreter_problem(python: str) -> Optional[str]:
    """Why the programs cannot run with this interpreter, in one line; None where nothing speaks against it."""
    if shutil.which(python) is None:
        return f"STDC_PYTHON: {python} is not a program; name the Python that has paddle"
    if python == sys.executable and importlib.util.find_spec("paddle") is None:
        return (
            "no Python for the programs: no .venv/train beside the Snakefile, and Snakemake's own has no paddle; "
            "run `make setup`, or name one by the variable STDC_PYTHON"
        )
    return None


def hold_lock(folder: Path) -> Optional[IO[str]]:
    """Take the lock of a working directory; it lasts as long as the returned handle is open.

    The kernel drops it with the process, even after a kill -9, which Snakemake's lock files survive.

    Raises:
        BlockingIOError: another run holds it; the text says which.
    """
    handle = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip()
        handle.close()
        raise BlockingIOError(
            f"{folder}: another run is at work in this directory{f' ({holder})' if holder else ''}; "
            "wait for it, or use another one with --directory"
        ) from None
    except OSError as error:
        handle.close()
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        print(f"{folder}: this file system has no locks; do not start a second run here", file=sys.stderr)
        return None
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    handle.flush()
    return handle


def failures(text: str) -> List[Failure]:
    """The failed rules in the text of Snakemake's log, in the order they failed.

    The exit code stands in another paragraph, before the rule's; the name of the log joins them.
    On a cluster it is unknown.
    """
    commands = re.findall(r"^CalledProcessError .*?returned non-zero exit status \d+", text, re.MULTILINE | re.DOTALL)
    found: Dict[str, Failure] = {}
    for block in re.split(r"^Error in rule ", text, flags=re.MULTILINE)[1:]:
        # On a cluster the scheduler's log follows after a comma; names of ours hold none.
        log = re.search(r"^    log: (.+?)(?:, .*)?(?: \(check log file.*)?$", block, re.MULTILINE)
        if log is not None:
            path = log.group(1)
            codes = [int(command.rsplit(" ", 1)[1]) for command in commands if f"--log {path}" in command]
            message = re.search(r"^    message: (.*?)\n    \S", block, re.MULTILINE | re.DOTALL)
            words = message.group(1) if message and message.group(1) != "None" else ""
            # A job that was tried again counts once.
            found[path] = Failure(
                block.split(":", 1)[0], path, codes[-1] if codes else None, words.split("For further")[0]
            )
    return list(found.values())


def last_words(log: Path, lines: int = 12) -> List[str]:
    """The end of a program's log, without empty lines."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def job_environment(code: Path) -> Dict[str, str]:
    """Variables that programs started by this process get, beside those it has.

    STDC_DIE_WITH_PARENT: a program must not train on when Snakemake was killed, not even one that is just starting; the
    value is the process to live as long as. 0 switches it off.
    """
    made = {name: value for name, value in commit_of(code).items() if name not in os.environ}
    if os.environ.get("STDC_DIE_WITH_PARENT") != "0":
        made["STDC_DIE_WITH_PARENT"] = str(os.getpid())
    return made


def commit_of(code: Path) -> Dict[str, str]:
    """What provenance needs to know of the checkout, as environment variables; nothing where it is not one."""
    git = ["git", "-c", f"safe.directory={code}", "-C", str(code)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20, check=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"STDC_COMMIT": head.stdout.strip(), "STDC_COMMIT_DIRTY": "1" if changes.stdout.strip() else "0"}
