"""Batches are the same for any number of workers, and no worker is left behind."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from stdc.errors import InputError, InputErrors
from stdc.training.loader import WorkerLost, batches, remove_semaphores


class Numbers:
    """Samples that hold their key and the pid of the process that made them."""

    def __init__(self, fault=None):
        self.fault = fault

    def __getitem__(self, key):
        if key == 13 and self.fault == "input":
            raise InputErrors("two problems", ["a.png: cut", "b.png: gone"])
        if key == 13 and self.fault == "bug":
            raise ZeroDivisionError("of ours")
        if key == 13 and self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((3, 2, 2), key, np.float32), np.full((2, 2), key % 19, np.uint8), os.getpid()


STEPS = [[5, 6], [7, 8], [1, 2], [3, 4], [9, 10]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whatever_the_number_of_workers(workers):
    found = list(batches(Numbers(), STEPS, workers))
    assert [batch.keys for batch in found] == STEPS
    assert [batch.images[:, 0, 0, 0].tolist() for batch in found] == STEPS
    assert all(batch.images.dtype == np.float32 and batch.labels.dtype == np.uint8 for batch in found)
    assert all(batch.wait_s >= 0 for batch in found)


@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_input_arrives_with_all_its_lines(workers):
    with pytest.raises(InputError, match=r"two problems\n  a\.png: cut\n  b\.png: gone"):
        list(batches(Numbers("input"), [[1], [13]], workers))


def test_fault_in_a_worker_names_the_sample():
    with pytest.raises(RuntimeError, match="sample 13: ZeroDivisionError: of ours"):
        list(batches(Numbers("bug"), [[13]], 1))


def test_killed_worker_ends_the_work_with_a_reason():
    with pytest.raises(WorkerLost, match="a data worker died"):
        list(batches(Numbers("killed"), [[1], [13], [2]], 1))


def test_one_worker_of_three_killed_ends_the_work_and_a_signal_to_all_does_not():
    loaded = batches(Numbers(), ([key] for key in range(14, 10_000)), 3)
    next(loaded)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGTERM)
        os.kill(child.pid, signal.SIGUSR1)
    assert next(loaded).keys == [15] and len(multiprocessing.active_children()) == 3
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(WorkerLost):
        for _ in loaded:
            pass
    assert time.monotonic() - started < 10 and multiprocessing.active_children() == []


def test_semaphores_carry_the_owners_name_and_are_removed_by_it(tmp_path):
    loaded = batches(Numbers(), ([key] for key in range(50)), 1, "stdc-test-owner")
    next(loaded)
    assert list(Path("/dev/shm").glob("sem.stdc-test-owner-*")), "no semaphore has the name"
    loaded.close()
    assert not list(Path("/dev/shm").glob("sem.stdc-test-owner-*"))
    for name in ("sem.stdc-a-1", "sem.stdc-ab-1", "sem.mp-1"):
        (tmp_path / name).write_bytes(b"")
    remove_semaphores("stdc-a", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sem.mp-1", "sem.stdc-ab-1"]


def test_leaving_early_leaves_no_process():
    before = set(multiprocessing.active_children())
    loaded = batches(Numbers(), ([key] for key in range(1000)), 2)
    next(loaded)
    loaded.close()
    deadline = time.monotonic() + 5
    while set(multiprocessing.active_children()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(multiprocessing.active_children()) == before
