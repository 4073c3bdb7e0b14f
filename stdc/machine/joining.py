"""Trainings that one node begins and others join, where a launcher starts the same container on every node.

Node 0 runs the workflow. When one of its trainings begins, it leaves the command in a file that all nodes see; each
other node has waited for that, runs the same command under its own number, and waits for the next one, until node 0's
workflow has ended. A node that is started anew comes back by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

from stdc import files
from stdc.errors import InputError, RunError, StoppedError
from stdc.machine.lifetime import die_with_parent
from stdc.machine.nodes import LAUNCH_VARIABLE, Nodes
from stdc.machine.ranks import StopRequest, without_option
from stdc.progress import Log

#: Set for the workflow of node 0 where other nodes wait to join its trainings.
JOIN_VARIABLE = "STDC_NODES_JOIN"
_POLL_S = 0.5
#: A training that could not be joined is tried again after this time, while node 0 still announces it.
_AGAIN_S = 5.0
#: What an earlier job of the same name left is believed only when node 0 has not cleared it away within this time.
_OLD_S = 60.0
#: Exit codes that another start of node 0 would not change.
_FINAL = (0, InputError.exit_code)


@contextlib.contextmanager
def announced(runs: Path, nodes: Nodes, argv: List[str], environment: Mapping[str, str]) -> Iterator[Nodes]:
    """Let other nodes join this training while the block runs; does nothing unless they wait for it.

    Args:
        runs: folder that all nodes see.
        nodes: of this training.
        argv: program and arguments of this process.
        environment: says whether other nodes wait.
    Yields:
        The nodes under a name of this start alone, so that none takes part in what an earlier start left.
    """
    if nodes.count == 1 or nodes.number > 0 or environment.get(JOIN_VARIABLE) != "1":
        yield nodes
        return
    started = dataclasses.replace(nodes, launch=f"{nodes.launch}/{time.time_ns()}")
    path = _file(runs, nodes, "training")
    files.write_json(path, {"launch": started.launch, "argv": argv, "folder": str(Path.cwd())})
    try:
        yield started
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


#: What node 0 leaves, by the suffix of the file.
_CONTENT: Dict[str, Dict[str, type]] = {
    ".over": {"exit_code": int},
    ".training": {"launch": str, "argv": list, "folder": str},
}


def begin(runs: Path, nodes: Nodes) -> None:
    """On node 0, before its workflow: forget what earlier starts of this job left."""
    for kind in ("training", "over"):
        with contextlib.suppress(FileNotFoundError):
            _file(runs, nodes, kind).unlink()


def end(runs: Path, nodes: Nodes, exit_code: int) -> None:
    """On node 0, after its workflow: let the others end too, unless another start may go on."""
    if exit_code in _FINAL:
        files.write_json(_file(runs, nodes, "over"), {"exit_code": exit_code})


def follow(runs: Path, nodes: Nodes, log: Log, limit_s: float) -> int:
    """On a node other than the first: join every training of node 0 until its workflow ends.

    Args:
        runs: folder that all nodes see.
        nodes: of this job, and which of them this is.
        log: receives a line for each training that is joined.
        limit_s: longest wait for a training or the end.
    Returns:
        The exit code of node 0's workflow.
    Raises:
        StoppedError: a signal asked for the end, and what ran has saved.
        RunError: nothing came within the limit.
    """
    finished = None
    begun = time.monotonic()
    deadline = begun + limit_s
    old = _read(_file(runs, nodes, "over")) is not None
    log(f"node {nodes.number} of {nodes.count}: waiting for a training of node 0")
    with StopRequest() as stop:
        while time.monotonic() < deadline:
            over = _read(_file(runs, nodes, "over"))
            old = old and over is not None
            if over is not None and not (old and time.monotonic() < begun + _OLD_S):
                return int(over["exit_code"])
            training = _read(_file(runs, nodes, "training"))
            if training is not None and training["launch"] != finished:
                log(f"node {nodes.number} joins the training {training['launch']}")
                code = _join(training, stop)
                if code == 0:
                    finished = training["launch"]
                elif not stop.requested():
                    log(f"it ended with {code} on this node; waiting for node 0 to go on")
                    time.sleep(_AGAIN_S)
                deadline = time.monotonic() + limit_s
            if stop.requested():
                raise StoppedError(
                    f"node {nodes.number}: stopped on request; started again, it joins the training anew"
                )
            time.sleep(_POLL_S)
    raise RunError(f"node {nodes.number}: no training of node 0 within {limit_s:.0f} s; look at node 0's log")


def _join(training: Dict[str, Any], stop: StopRequest) -> int:
    """Run the announced command as this node's part; pass a stop request on once."""
    command = [sys.executable, *without_option(training["argv"], "--log")]
    environment = {**os.environ, LAUNCH_VARIABLE: training["launch"], "STDC_DIE_WITH_PARENT": str(os.getpid())}
    process = subprocess.Popen(
        command, cwd=training["folder"], env=environment, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    asked = False
    while process.poll() is None:
        if stop.requested() and not asked:
            process.send_signal(signal.SIGTERM)
            asked = True
        time.sleep(_POLL_S)
    return int(process.returncode)


def _file(runs: Path, nodes: Nodes, kind: str) -> Path:
    return runs / f".nodes-{hashlib.sha256(nodes.launch.encode()).hexdigest()[:16]}.{kind}"


def _read(path: Path) -> Optional[Dict[str, Any]]:
    try:
        found = files.read_json(path)
    except (InputError, OSError):
        # The file is not there yet, or is being replaced at this moment.
        return None
    expected = _CONTENT[path.suffix]
    sound = isinstance(found, dict) and all(type(found.get(key)) is kind for key, kind in expected.items())
    if not sound or not all(isinstance(word, str) for word in found.get("argv", ())):
        raise InputError(
            f"{path}: node 0 leaves {' and '.join(expected)} there; remove the file and start the job again"
        )
    return dict(found)
