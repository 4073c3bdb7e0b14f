"""Batches are the same for any number of workers, no worker is left behind, and no wait is without a limit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from stdc.errors import InputError, InputErrors, RunError
from stdc.training.loader import WorkerDied, batches, slot_count


class Numbers:
    """Samples that hold their key.

    Args:
        fault: what happens to the sample of key 13.
        shape: of a plane.
    """

    def __init__(self, fault: str = "", shape: Tuple[int, int] = (2, 2)) -> None:
        self.fault, self.shape = fault, shape

    def frame(self, key: int) -> str:
        return f"frame{key}"

    def __getitem__(self, key: int) -> Tuple[np.ndarray, np.ndarray]:
        shape = self.shape
        if key == 13 and self.fault:
            if self.fault == "input":
                raise InputErrors("two problems", ["a.png: cut", "b.png: gone"])
            if self.fault == "disk":
                raise OSError(5, "Input/output error", "a.png")
            if self.fault == "bug":
                raise ZeroDivisionError("of ours")
            if self.fault == "hang":
                time.sleep(1000)
            if self.fault == "shape":
                shape = (3, 3)
            if self.fault in ("SIGKILL", "SIGSTOP"):
                os.kill(os.getpid(), getattr(signal, self.fault))
        return np.full((3, *shape), key % 256, np.uint8), np.full(shape, key % 19, np.uint8)


class Unpicklable(Numbers):
    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("cannot be taken up")


STEPS = [[5, 6], [7, 8], [1, 2], [3, 4], [9, 10], [11, 12], [14, 15], [16, 17], [18, 19]]


def workers_now() -> List[Any]:
    return multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whatever_the_number_of_workers(workers: int) -> None:
    for batch, keys in zip(batches(Numbers(), STEPS, workers), STEPS):
        assert batch.images.shape == (2, 3, 2, 2) and batch.labels.shape == (2, 2, 2)
        assert batch.images[:, 2, 1, 0].tolist() == keys and batch.labels[:, 1, 1].tolist() == [k % 19 for k in keys]
        assert batch.images.dtype == np.uint8 and batch.labels.dtype == np.uint8 and batch.wait_s >= 0
    assert workers_now() == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_step_gives_one_batch(workers: int) -> None:
    assert sum(1 for _ in batches(Numbers(), STEPS, workers)) == len(STEPS)
    assert list(batches(Numbers(), [], workers)) == []


def test_a_batch_stays_as_it_is_until_the_one_after_the_next_is_asked_for() -> None:
    loaded = batches(Numbers(), ([key, key] for key in range(40)), 2)
    before = next(loaded)
    for number, batch in enumerate(loaded, start=1):
        assert (before.images == number - 1).all() and (batch.images == number).all()
        before = batch


def test_more_samples_than_a_pipe_holds_arrive() -> None:
    keys = list(range(3000))
    (batch,) = batches(Numbers(shape=(1, 1)), [keys], 2)
    assert batch.images[:, 0, 0, 0].tolist() == [key % 256 for key in keys]


def test_memory_is_bounded_and_keeps_every_worker_busy() -> None:
    assert slot_count(workers=6, device_batch=12) == 4
    for workers in (1, 2, 7, 64):
        for device_batch in (1, 3, 48):
            ahead = slot_count(workers, device_batch) - 1
            assert ahead >= 3 and (ahead - 1) * device_batch >= 2 * workers - device_batch


@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_input_arrives_with_all_its_lines(workers: int) -> None:
    with pytest.raises(InputError, match=r"two problems\n  a\.png: cut\n  b\.png: gone"):
        list(batches(Numbers("input"), [[1], [13]], workers))


def test_disk_error_in_a_worker_is_no_wrong_input() -> None:
    with pytest.raises(RunError, match=r"^frame13: .*Input/output error.*a\.png"):
        list(batches(Numbers("disk"), [[13]], 1))


def test_fault_in_a_worker_names_the_sample_and_shows_where() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)frame13: ZeroDivisionError: of ours.*__getitem__"):
        list(batches(Numbers("bug"), [[13]], 1))


def test_samples_of_different_shape_are_a_fault() -> None:
    with pytest.raises(RuntimeError, match="differ in shape"):
        list(batches(Numbers("shape"), [[12, 13]], 1))


def test_dataset_that_cannot_be_taken_up_ends_in_words() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)data worker could not start.*cannot be taken up"):
        list(batches(Unpicklable(), [[1]], 2))


def test_killed_worker_names_itself_and_its_frame() -> None:
    with pytest.raises(WorkerDied, match=r"a data worker died: process \d+ ended by SIGKILL .* sample of frame13;"):
        list(batches(Numbers("SIGKILL"), [[1], [13], [2]], 1))
    assert workers_now() == []


def test_one_worker_of_three_killed_ends_the_work_and_a_signal_to_all_does_not() -> None:
    loaded = batches(Numbers(), ([key] for key in range(14, 10_000)), 3)
    next(loaded)
    for child in workers_now():
        os.kill(child.pid, signal.SIGTERM)
        os.kill(child.pid, signal.SIGUSR1)
    assert next(loaded).images[0, 0, 0, 0] == 15 and len(workers_now()) == 3
    os.kill(workers_now()[0].pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(WorkerDied, match="ended by SIGKILL"):
        for _ in loaded:
            pass
    assert time.monotonic() - started < 10 and workers_now() == []


def test_the_limit_ends_the_wait_for_a_stuck_worker() -> None:
    started = time.monotonic()
    with pytest.raises(WorkerDied, match=r"^no sample for \d+ s: data worker .* owes that of frame13\."):
        list(batches(Numbers("hang"), [[13]], 1, limit_s=0.5))
    assert time.monotonic() - started < 20 and workers_now() == []


@pytest.mark.parametrize(("fault", "state"), [("hang", "asleep"), ("SIGSTOP", "stopped")])
def test_request_to_stop_shortens_the_wait_and_the_stuck_worker_is_named_with_its_frame(
    fault: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stdc.training.loader._STOPPING_LIMIT_S", 0.5)
    asked: List[float] = []
    loaded = batches(Numbers(fault), [[1, 2], [12, 13], [14, 15]], 2, stop=lambda: bool(asked))
    assert next(loaded).images[0, 0, 0, 0] == 1
    asked.append(time.monotonic())
    with pytest.raises(WorkerDied, match=rf"no sample for \d+ s: data worker \d+ \({state}\) owes that of frame13\."):
        next(loaded)
    assert time.monotonic() - asked[0] < 20 and workers_now() == []


def test_request_to_stop_does_not_keep_sound_batches_back() -> None:
    asked: List[bool] = []
    loaded = batches(Numbers(), STEPS, 2, stop=lambda: bool(asked))
    # Asked once the workers are up: on a busy machine their start may take longer than a trainer that stops waits.
    next(loaded)
    asked.append(True)
    assert len(list(loaded)) == len(STEPS) - 1


def test_worker_killed_while_it_starts_ends_in_words() -> None:
    loaded = batches(Numbers(), [[1]], 1)
    threading.Timer(0.02, lambda: [os.kill(child.pid, signal.SIGKILL) for child in workers_now()]).start()
    for _ in range(200):
        try:
            next(loaded)
        except WorkerDied:
            break
        except StopIteration:
            loaded = batches(Numbers(), [[1]], 1)
            threading.Timer(0.02, lambda: [os.kill(child.pid, signal.SIGKILL) for child in workers_now()]).start()
    else:
        raise AssertionError("no kill hit a worker")
    assert workers_now() == []


def in_shared_memory() -> List[str]:
    """Files of /dev/shm that this process or a worker holds in its memory; other programs have theirs there too."""
    maps = [Path(f"/proc/{pid}/maps") for pid in (os.getpid(), *(worker.pid for worker in workers_now()))]
    return [line for path in maps for line in path.read_text().splitlines() if "/dev/shm/" in line]


def test_leaving_early_leaves_no_process_no_file_and_no_descriptor() -> None:
    shared, handles = in_shared_memory(), set(Path("/proc/self/fd").iterdir())
    loaded = batches(Numbers(), ([key] for key in range(1000)), 2)
    last = next(loaded)
    assert in_shared_memory() == shared, "samples must not lie where a kill leaves them"
    loaded.close()
    assert workers_now() == [] and (last.images == 0).all()
    # One may be Python's own resource tracker's.
    assert len(set(Path("/proc/self/fd").iterdir()) - handles) <= 1


@pytest.mark.campaign
def test_kill_at_a_random_moment_of_a_large_transfer_never_hangs() -> None:
    draw = random.Random(0)
    for _ in range(6):
        loaded = batches(Numbers(shape=(256, 512)), ([2 * key, 2 * key + 1] for key in range(100_000)), 2)
        next(loaded)
        victim = draw.choice(workers_now()).pid
        threading.Timer(draw.uniform(0, 0.05), os.kill, (victim, signal.SIGKILL)).start()
        started = time.monotonic()
        with pytest.raises(WorkerDied, match=f"process {victim} ended by SIGKILL"):
            for _ in loaded:
                assert time.monotonic() - started < 30
        assert workers_now() == []
