"""Batches ahead of need, from worker processes that never outlive the trainer.

Why not Paddle's own loader: its workers survive a killed trainer, keep its locks and leave shared-memory files behind.
Here each sample's randomness comes from its key, so any number of workers gives the same batches.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Deque, FrozenSet, Generator, Iterable, Iterator, List, NamedTuple, Sequence

import numpy as np

from stdc.errors import InputError, RunError
from stdc.machine.lifetime import die_with_parent

#: Batches asked for ahead of the one in use, a worker.
_BATCHES_AHEAD = 2

#: A scheduler may send these to all processes of a job; the trainer needs its workers to end the step and save.
_NOT_FOR_WORKERS: FrozenSet[int] = frozenset((signal.SIGTERM, signal.SIGUSR1))

_dataset: Any = None


class WorkerLost(RunError):
    """A data worker died: killed from outside, or for want of memory."""


class Batch(NamedTuple):
    """Stacked samples.

    Attributes:
        images: (N, 3, H, W), float32.
        labels: (N, H, W), uint8 train ids.
        keys: the samples' keys, in order.
        wait_s: seconds the caller had to wait for this batch.
    """

    images: np.ndarray
    labels: np.ndarray
    keys: List[int]
    wait_s: float


def batches(
    dataset: Any, steps: Iterable[List[int]], workers: int, owner: str = "stdc"
) -> Generator[Batch, None, None]:
    """Yield one batch for each list of keys, in order.

    Args:
        dataset: `dataset[key]` gives (image, label, …); it is pickled once for each worker.
        steps: keys of each batch.
        workers: processes; 0 reads in this one.
        owner: names the semaphores of the processes, for `remove_semaphores`.
    Raises:
        InputError: a sample is not readable.
        WorkerLost: a worker process died.
    """
    if workers == 0:
        yield from _in_process(dataset, steps)
    else:
        yield from _in_workers(dataset, steps, workers, owner)


def _in_process(dataset: Any, steps: Iterable[List[int]]) -> Iterator[Batch]:
    for keys in steps:
        started = time.perf_counter()
        samples = [dataset[key] for key in keys]
        yield _stack(samples, keys, started)


def _in_workers(dataset: Any, steps: Iterable[List[int]], workers: int, owner: str) -> Generator[Batch, None, None]:
    # Spawned, not forked: a fork copies paddle's threads' locks and the run folder's lock into the worker.
    with _children_without(_NOT_FOR_WORKERS), _semaphores_of(owner):
        executor = concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _start_worker, (dataset, os.getpid())
        )
    waiting: Deque[Any] = collections.deque()
    upcoming = iter(steps)
    try:
        while True:
            while len(waiting) < workers * _BATCHES_AHEAD:
                keys = next(upcoming, None)
                if keys is None:
                    break
                with _children_without(_NOT_FOR_WORKERS):
                    waiting.append((keys, [executor.submit(_read, key) for key in keys]))
            if not waiting:
                return
            started = time.perf_counter()
            keys, futures = waiting.popleft()
            samples = [future.result() for future in futures]
            yield _stack(samples, keys, started)
    except concurrent.futures.process.BrokenProcessPool:
        # The pool ends the others by SIGTERM, which does not reach them, and would wait for them for ever.
        for child in multiprocessing.active_children():
            child.kill()
        raise WorkerLost("a data worker died; was it killed, or is the memory full? Start again to go on") from None
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()
        executor.shutdown(wait=True)


def remove_semaphores(owner: str, folder: Path = Path("/dev/shm")) -> None:
    """Remove what a killed owner left in shared memory: a kill of the whole group takes the cleaner along.

    Call only while no other process of this owner can run.
    """
    for path in folder.glob(f"sem.{owner}-*") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


@contextlib.contextmanager
def _semaphores_of(owner: str) -> Iterator[None]:
    """Semaphores made meanwhile carry the owner's name; by themselves they are called `mp-` and anything."""
    settings = getattr(multiprocessing.current_process(), "_config", {})
    before = settings.get("semprefix")
    if before is not None and sys.platform.startswith("linux"):
        settings["semprefix"] = f"/{owner}"
    try:
        yield
    finally:
        if before is not None:
            settings["semprefix"] = before


@contextlib.contextmanager
def _children_without(signals: FrozenSet[int]) -> Iterator[None]:
    """Processes started meanwhile never get these signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(dataset: Any, parent: int) -> None:
    die_with_parent(parent)
    # Ctrl-C and a scheduler's signals to the group are for the trainer, which needs the workers to end its step.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One core a worker; OpenCV would start a thread pool in each.
    import cv2

    cv2.setNumThreads(1)
    global _dataset
    _dataset = dataset


def _read(key: int) -> Any:
    try:
        return _dataset[key]
    except InputError:
        raise
    except Exception as error:
        raise RuntimeError(f"sample {key}: {type(error).__name__}: {error}") from error


def _stack(samples: Sequence[Any], keys: List[int], started: float) -> Batch:
    wait_s = time.perf_counter() - started
    return Batch(
        np.stack([sample[0] for sample in samples]), np.stack([sample[1] for sample in samples]), list(keys), wait_s
    )
