"""Nodes that join what node 0 begins, with programs of the test's own in place of trainings."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import List

import pytest

from stdc.errors import InputError, RunError, StoppedError
from stdc.machine import joining
from stdc.machine.nodes import Nodes

FIRST = Nodes(2, 0, "a:1", "job@a:1")
OTHER = dataclasses.replace(FIRST, number=1)
WAITING = {"STDC_NODES_JOIN": "1"}
PROGRAM = """
import json, os, pathlib, sys
path = pathlib.Path(sys.argv[1])
path.write_text(json.dumps([sys.argv[2:], os.environ["STDC_LAUNCH"], os.getcwd()]))
sys.exit(int(sys.argv[2]))
"""


def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_node_runs_the_announced_command_once_and_ends_as_the_workflow_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(joining, "_POLL_S", 0.05)
    trace, log = tmp_path / "trace", []

    def first() -> None:
        with joining.announced(tmp_path, FIRST, [program(tmp_path), str(trace), "0", "--log", "x"], WAITING) as nodes:
            assert nodes.launch.startswith("job@a:1/") and nodes.number == 0
            wait_for(trace)
            time.sleep(0.5)
        joining.end(tmp_path, FIRST, 0)

    thread = threading.Thread(target=first)
    thread.start()
    assert joining.follow(tmp_path, OTHER, log.append, 20) == 0
    thread.join()
    words, launch, folder = json.loads(trace.read_text())
    # The log is node 0's.
    assert (words, folder) == (["0"], str(tmp_path)) and launch.startswith("job@a:1/")
    assert sum("joins" in line for line in log) == 1


def test_training_that_could_not_be_joined_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_AGAIN_S", 0.05)
    log: List[str] = []
    path = tmp_path / "fails.py"
    path.write_text("import pathlib, sys\nwith open(sys.argv[1], 'a') as f: f.write('x')\nsys.exit(1)\n")
    trace = tmp_path / "trace"

    def first() -> None:
        with joining.announced(tmp_path, FIRST, [str(path), str(trace)], WAITING):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and (not trace.exists() or len(trace.read_text()) < 2):
                time.sleep(0.02)
        joining.end(tmp_path, FIRST, 2)

    thread = threading.Thread(target=first)
    thread.start()
    assert joining.follow(tmp_path, OTHER, log.append, 20) == 2
    thread.join()
    assert len(trace.read_text()) >= 2 and any("ended with 1 on this node" in line for line in log)


@pytest.mark.parametrize(("code", "left"), [(0, True), (2, True), (1, False), (75, False), (137, False)])
def test_only_what_another_start_would_not_change_ends_the_others(tmp_path: Path, code: int, left: bool) -> None:
    joining.end(tmp_path, FIRST, code)
    assert bool(list(tmp_path.iterdir())) == left
    joining.begin(tmp_path, FIRST)
    assert not list(tmp_path.iterdir())


def test_end_that_an_earlier_job_of_the_name_left_is_not_believed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining.end(tmp_path, FIRST, 0)
    with pytest.raises(RunError, match="no training"):
        joining.follow(tmp_path, OTHER, print, 0.3)
    monkeypatch.setattr(joining, "_OLD_S", 0.2)
    assert joining.follow(tmp_path, OTHER, print, 20) == 0


def test_waiting_has_a_limit_and_obeys_a_stop(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no training of node 0 within 0 s"):
        joining.follow(tmp_path, OTHER, print, 0.1)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(StoppedError, match="started again, it joins"):
        joining.follow(tmp_path, OTHER, print, 20)


@pytest.mark.parametrize(
    ("nodes", "environment"), [(Nodes(), WAITING), (OTHER, WAITING), (FIRST, {}), (FIRST, {"STDC_NODES_JOIN": "0"})]
)
def test_nothing_is_announced_where_nobody_waits(tmp_path: Path, nodes: Nodes, environment: dict) -> None:
    with joining.announced(tmp_path, nodes, [sys.argv[0]], environment) as same:
        assert same == nodes and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("over", "{}"),
        ("over", '{"exit_code": "0"}'),
        ("over", "[1]"),
        ("training", '{"launch": "a"}'),
        ("training", '{"launch": "a", "argv": [1], "folder": "."}'),
    ],
)
def test_what_node_0_would_not_leave_is_refused_in_words(tmp_path: Path, kind: str, text: str) -> None:
    joining._file(tmp_path, OTHER, kind).write_text(text)
    with pytest.raises(InputError, match=rf"\.{kind}: node 0 leaves .* there; remove the file"):
        joining.follow(tmp_path, OTHER, lambda _: None, 5)
