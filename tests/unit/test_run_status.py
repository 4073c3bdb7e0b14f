"""The status of runs: what the kernel lock and the files say."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from programs import assert_refused, run_program

from stdc.results.run_status import SILENT_S, read_runs
from stdc.results.status_table import as_table

NOW = time.time()


def write_run(runs: Path, folder_name: str, **status: Any) -> Path:
    folder = runs / folder_name
    folder.mkdir(parents=True)
    (folder / "lock").write_text("")
    if status:
        (folder / "status.json").write_text(json.dumps(status))
    return folder


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A run whose lock this process holds, as a trainer does."""
    folder = write_run(
        tmp_path / "runs", "ab" * 8, state="evaluating", pid=7, host=socket.gethostname(), name="mini", seed=3,
        iteration=40, iterations=100, eta_s=61.2, loss=1.25, images_per_s=8.5, reader_wait_share=0.04, miou=0.2,
        best={"miou": 0.25, "iteration": 20},
    )  # fmt: skip
    with (folder / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder


def test_a_run_at_work_is_told_in_one_line(held, tmp_path):
    (run,) = read_runs(tmp_path / "runs", tmp_path / "results", NOW)
    assert (run.state, run.seed, run.miou, run.best_miou, run.needed) == ("evaluating", 3, 0.2, 0.25, True)
    head, line = as_table([run], None).splitlines()
    cells = line.split()
    assert cells[:5] == ["abababab", "mini", "3", "evaluating", "40/100"]
    assert cells[5:11] == ["0:01:02", "1.2500", "20.00", "25.00", "8.5", "4%"]
    assert line.endswith(f"7 on {socket.gethostname()}") and head.startswith("run ")


@pytest.mark.parametrize("state", ["starting", "running", "evaluating", "saving"])
def test_a_run_that_was_at_work_and_holds_no_lock_is_dead(tmp_path, state):
    write_run(tmp_path / "runs", "ab" * 8, state=state, host=socket.gethostname(), eta_s=5)
    (run,) = read_runs(tmp_path / "runs", tmp_path / "results", NOW)
    assert run.state == "dead" and run.eta_s is None and run.needed


@pytest.mark.parametrize("state", ["stopped", "finished", "diverged", "failed"])
def test_the_end_of_a_run_is_told_as_it_was(tmp_path, state):
    write_run(tmp_path / "runs", "ab" * 8, state=state, host="elsewhere")
    (run,) = read_runs(tmp_path / "runs", tmp_path / "results", NOW)
    assert run.state == state and run.needed == (state != "finished")


def test_a_run_on_another_machine_is_dead_after_a_long_silence_only(tmp_path):
    folder = write_run(tmp_path / "runs", "ab" * 8, state="running", host="elsewhere")
    os.utime(folder / "status.json", (NOW - 5, NOW - 5))
    assert read_runs(tmp_path / "runs", tmp_path / "results", NOW)[0].state == "running"
    later = NOW + SILENT_S
    assert read_runs(tmp_path / "runs", tmp_path / "results", later)[0].state == "dead"
    # Any of the files is a sign of life.
    (folder / "heartbeat").write_text("x")
    os.utime(folder / "heartbeat", (later - 1, later - 1))
    (run,) = read_runs(tmp_path / "runs", tmp_path / "results", later)
    assert run.state == "running" and run.silent_s == pytest.approx(1, abs=0.1)


def test_runs_that_no_result_needs_are_named_with_their_size(tmp_path):
    kept, spare = "ab" * 8, "cd" * 8
    for name in (kept, spare):
        (write_run(tmp_path / "runs", name, state="finished") / "big").write_bytes(b"x" * 3_000_000)
    seed = tmp_path / "results" / "mini" / "seed4"
    seed.mkdir(parents=True)
    (seed / "provenance.json").write_text(json.dumps({"run_hash": kept * 4}))
    runs = {run.folder: run for run in read_runs(tmp_path / "runs", tmp_path / "results", NOW)}
    assert runs[kept].needed and not runs[spare].needed
    assert (runs[kept].name, runs[kept].seed) == ("mini", 4), "its results name it"
    assert as_table(list(runs.values()), None).endswith(f"No result needs these any more (3 MB): {spare}")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"state": 5, "iteration": "x", "best": [], "loss": NaN, "pid": 1e999}']
)
def test_damaged_status_files_are_no_obstacle(tmp_path, text):
    folder = write_run(tmp_path / "runs", "ab" * 8)
    (folder / "status.json").write_text(text)
    (folder / "history.jsonl").write_text('{"iteration": 30, "loss": 2.0}\n{"iter')
    (run,) = read_runs(tmp_path / "runs", tmp_path / "results", NOW)
    assert run.state == "unknown" and run.iteration == 30
    assert "30" in as_table([run], None)


@pytest.mark.parametrize("name", ["status.json", "history.jsonl", "lock"])
def test_a_pipe_or_a_device_in_a_run_folder_keeps_nobody_waiting(tmp_path, name):
    for number, kind in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"))):
        path = write_run(tmp_path / "runs", f"{number}" * 16) / name
        path.unlink(missing_ok=True)
        kind(path)
    assert [run.state for run in read_runs(tmp_path / "runs", tmp_path / "results", NOW)] == ["unknown"] * 2


def test_a_narrow_terminal_gets_fewer_columns(held, tmp_path):
    runs = read_runs(tmp_path / "runs", tmp_path / "results", NOW)
    narrow = as_table(runs, 80)
    assert max(map(len, narrow.splitlines())) <= 80 and "ETA" in narrow and "process" not in narrow
    assert len(as_table(runs, None).splitlines()[0]) > 80


def test_program_prints_a_table_or_json(held, tmp_path):
    options = ("--runs", tmp_path / "runs", "--results", tmp_path / "results")
    shown = run_program("status", *options)
    assert shown.returncode == 0 and "evaluating" in shown.stdout
    document = json.loads(run_program("status", "--json", *options).stdout)
    assert document["runs"][0]["iteration"] == 40 and document["format"] == 1
    assert_refused(run_program("status", "--runs", tmp_path / "none"), "no such folder")
