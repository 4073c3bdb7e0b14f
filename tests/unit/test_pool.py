from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stdc.errors import InputError, InputErrors
from stdc.machine.pool import WorkerDied, WorkerError, run_parallel

REPOSITORY = Path(__file__).resolve().parents[2]


def double(value):
    # Later items end first.
    time.sleep(0.01 / (value + 1))
    return 2 * value


@pytest.mark.parametrize("workers", [-1, 1, 2, 5, 100])
def test_results_keep_the_order_of_the_items(workers):
    seen = []
    results = run_parallel(
        double, range(20), workers, name=str, done=lambda index, result: seen.append((index, result))
    )
    assert results == [2 * value for value in range(20)]
    assert sorted(seen) == list(enumerate(results))
    assert run_parallel(double, [], workers, name=str) == []


def raise_on_three(make):
    def function(value):
        if value == 3:
            raise make()
        return value

    return function


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: InputError("a.png: wrong"), InputError, "a.png: wrong"),
        (lambda: InputErrors("two", ["a", "b"]), InputError, "two\n  a\n  b"),
        (lambda: ZeroDivisionError("oops"), WorkerError, "item 3: a worker failed"),
        (MemoryError, WorkerDied, "item 3: no memory left; start fewer processes"),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), OSError, "item 3"),
    ],
)
def test_failure_of_a_worker_surfaces(workers, make, kind, said):
    with pytest.raises(kind) as caught:
        run_parallel(raise_on_three(make), range(8), workers, name=lambda value: f"item {value}")
    assert said in str(caught.value)


def test_fault_carries_the_traceback_of_the_worker():
    with pytest.raises(WorkerError, match="in function"):
        run_parallel(raise_on_three(lambda: KeyError("x")), range(8), 2, name=str)


@pytest.mark.parametrize("victim", [0, 1, 5])
def test_killed_worker_is_named_by_its_item_and_does_not_hang(victim):
    def work(value):
        if value == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    with pytest.raises(WorkerDied, match=f"frame {victim}: the worker busy with it was ended by SIGKILL"):
        run_parallel(work, range(8 if victim > 1 else 2), 2, name=lambda value: f"frame {value}")


def test_other_workers_end_their_item_after_a_failure(tmp_path):
    def work(value):
        if value == 0:
            raise InputError("first")
        (tmp_path / "begun").touch()
        time.sleep(0.2)
        (tmp_path / "ended").touch()

    with pytest.raises(InputError, match="first"):
        run_parallel(work, range(2), 2, name=str)
    assert {path.name for path in tmp_path.iterdir()} in (set(), {"begun", "ended"})


def test_workers_die_with_a_killed_parent(tmp_path):
    script = f"""
import os, sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from stdc.machine.pool import run_parallel
def work(value):
    open(f"{tmp_path}/{{os.getpid()}}", "w").close()
    time.sleep(60)
run_parallel(work, range(4), 2, name=str)
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    for path in tmp_path.iterdir():
        wait_until(lambda pid=int(path.name): not is_running(pid))


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
