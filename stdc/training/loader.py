"""Batches ahead of need, from worker processes that never outlive the trainer and never make it wait without a limit.

Workers (`stdc.training.worker`) write their samples into memory that they share with the trainer
(`stdc.training.slots`); what goes through pipes is a few bytes per sample. There is no lock that a killed worker could
keep: the workers take fixed-size tasks from one pipe, which the kernel hands out whole, and each of them reports
through a pipe of its own.

Paddle's own loader is not used: its workers survive a killed trainer, keep its locks and leave shared-memory files
behind. A sample is a function of its key, so any number of workers gives the same batches.
"""

from __future__ import annotations

import collections
import contextlib
import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Callable, Deque, Dict, FrozenSet, Generator, Iterable, Iterator, List, NamedTuple

import numpy as np

from stdc.errors import RunError
from stdc.training.slots import Board, Handle, Layout, Slot, open_memory
from stdc.training.worker import ERRORS, PLACES, TASK, sample_name, serve, task_number

#: A scheduler may send these to all processes of a job; the trainer needs its workers to end the step and save.
_NOT_FOR_WORKERS: FrozenSet[int] = frozenset((signal.SIGTERM, signal.SIGUSR1))

#: Longest wait without a finished sample, seconds; generous, because a shared file system may pause for minutes.
LIMIT_S = 600.0
#: The same once the trainer was asked to stop: schedulers kill half a minute after they asked.
_STOPPING_LIMIT_S = 5.0
#: How often a waiting trainer looks whether it was asked to stop.
_POLL_S = 0.2
#: A killed worker that is not gone after this waits for a disk; the kernel ends it when the disk answers.
_END_LIMIT_S = 5.0


class WorkerDied(RunError):
    """A data worker was killed, ran out of memory, or gave no sign of life within the limit."""


class Batch(NamedTuple):
    """Stacked samples.

    Attributes:
        images: (N, 3, H, W), as the dataset hands them over: uint8 levels (`stdc.training.pixels` normalizes them), or
            float32 that is normalized already.
        labels: (N, H, W), uint8 train ids.
        wait_s: seconds that the caller had to wait for this batch.
    """

    images: np.ndarray
    labels: np.ndarray
    wait_s: float


def batches(
    dataset: Any,
    steps: Iterable[List[int]],
    workers: int,
    *,
    limit_s: float = LIMIT_S,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Batch, None, None]:
    """Yield one batch for each list of keys, in order.

    The arrays of a batch are views of memory that is written again once the batch after the next one is asked for.

    Args:
        dataset: `dataset[key]` gives (image, label), of one shape and type for all keys of a batch;
            `dataset.frame(key)` is the sample's name in messages. It is pickled for the workers.
        steps: keys of each batch.
        workers: processes; 0 reads in this one.
        limit_s: longest wait without a finished sample, seconds.
        stop: whether the caller was asked to end; once it was, five seconds without a sample are the limit.
    Raises:
        InputError: a sample is not readable.
        RunError: a sample cannot be read now, or there is no memory for it.
        WorkerDied: a worker process died or gave no sign within the limit; the message names the frame.
    """
    if workers == 0:
        yield from _in_process(dataset, steps)
        return
    pool = _Pool(dataset, workers, limit_s, stop)
    try:
        yield from pool.batches(steps)
    finally:
        pool.close()


def slot_count(workers: int, device_batch: int) -> int:
    """How many batches are in memory at a time: the trainer's own, and enough ahead to keep all workers busy."""
    return 1 + max(3, 1 + -(-2 * workers // device_batch))


def _in_process(dataset: Any, steps: Iterable[List[int]]) -> Iterator[Batch]:
    for keys in steps:
        started = time.perf_counter()
        images, labels = zip(*(dataset[key] for key in keys))
        yield Batch(np.stack(images), np.stack(labels), time.perf_counter() - started)


class _Worker(NamedTuple):
    """The trainer's side of one worker: the process, the pipe it reports through, and the beginning of a report."""

    process: Any
    reports: int
    begun: bytearray


class _Asked(NamedTuple):
    """A batch that was asked for: the keys of its samples, and the layouts of those that are there, by their place."""

    number: int
    keys: List[int]
    layouts: Dict[int, Layout]

    def is_complete(self) -> bool:
        return len(self.layouts) == len(self.keys)


class _Pool:
    """Workers, the slots they write into, and the batches that they were asked for."""

    def __init__(self, dataset: Any, workers: int, limit_s: float, stop: Callable[[], bool]) -> None:
        self.dataset, self.count, self.limit_s, self.stop = dataset, workers, limit_s, stop
        self.workers: List[_Worker] = []
        self.slots: List[Slot] = []
        self.board = Board(workers)
        self.tasks, self.untaken = os.pipe()
        os.set_blocking(self.untaken, False)
        self.unsent: Deque[bytes] = collections.deque()
        #: Batches under way, in order: the first one is the next to be handed over.
        self.asked: Deque[_Asked] = collections.deque()

    def batches(self, steps: Iterable[List[int]]) -> Iterator[Batch]:
        upcoming = iter(steps)
        number = 0
        while True:
            started = time.perf_counter()
            while not self.slots or len(self.asked) < len(self.slots) - 1:
                keys = next(upcoming, None)
                if keys is None:
                    break
                if not self.slots:
                    self._start(slot_count(self.count, len(keys)))
                self._ask(_Asked(number, keys, {}))
                number += 1
            if not self.asked:
                return
            self._wait()
            done = self.asked.popleft()
            layouts = set(done.layouts.values())
            if len(layouts) > 1:
                raise RuntimeError(f"samples {done.keys} of one batch differ in shape or type: {sorted(layouts)}")
            images, labels = self.slots[done.number % len(self.slots)].arrays(layouts.pop(), len(done.keys))
            yield Batch(images, labels, time.perf_counter() - started)

    def close(self) -> None:
        """End the workers; nobody needs what they are busy with."""
        for worker in self.workers:
            worker.process.kill()
        deadline = time.monotonic() + _END_LIMIT_S
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                # A process that stays in this set is waited for when Python exits, without a limit.
                multiprocessing.process._children.discard(worker.process)  # type: ignore[attr-defined]
            os.close(worker.reports)
        os.close(self.tasks)
        os.close(self.untaken)
        for slot in self.slots:
            slot.close()
        self.board.close()

    def _start(self, slots: int) -> None:
        self.slots = [Slot() for _ in range(slots)]
        # Through memory: the pipe that brings a spawned process its arguments would block if it died or stopped early.
        pickled = open_memory()
        with open(pickled.number, "wb", closefd=False) as file:
            file.write(ForkingPickler.dumps(self.dataset))
        # Spawned, not forked: a fork copies the locks of Paddle's threads and of the run folder into the worker.
        context = multiprocessing.get_context("spawn")
        for index in range(self.count):
            ours, theirs = os.pipe()
            os.set_blocking(ours, False)
            handles = (pickled, Handle(self.tasks), Handle(theirs))
            process = context.Process(
                target=serve, args=(index, handles, self.board, self.slots, os.getpid()), daemon=True
            )
            with _children_without(_NOT_FOR_WORKERS):
                process.start()
            # Our copy of the worker's end would hide its death.
            os.close(theirs)
            self.workers.append(_Worker(process, ours, bytearray()))
        pickled.close()

    def _ask(self, batch: _Asked) -> None:
        self.asked.append(batch)
        slot, count = batch.number % len(self.slots), len(batch.keys)
        for place, key in enumerate(batch.keys):
            self.unsent.append(TASK.pack(task_number(batch.number, place), slot, count, key))

    def _wait(self) -> None:
        """Until the next batch is complete.

        Raises:
            WorkerDied: a worker died, or no sample was finished within the limit.
        """
        silent_s, looked = 0.0, time.monotonic()
        while True:
            self._send()
            complete = self.asked[0].is_complete()
            ready = wait([worker.reports for worker in self.workers], 0.0 if complete else _POLL_S)
            news = [self._hear(worker) for worker in self.workers if worker.reports in ready]
            if complete:
                return
            # If this process was stopped for an hour, its workers may have been too: that counts as one look.
            now = time.monotonic()
            silent_s = 0.0 if any(news) else silent_s + min(now - looked, 2 * _POLL_S)
            looked = now
            if silent_s > self.limit_s or (silent_s > _STOPPING_LIMIT_S and self.stop()):
                raise self._silence(silent_s)

    def _send(self) -> None:
        """Ask for as many samples as the pipe takes; the rest follows with the next batch."""
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                os.write(self.untaken, self.unsent[0])
                self.unsent.popleft()

    def _hear(self, worker: _Worker) -> bool:
        """Take in what a worker reports; whether a sample was finished."""
        data = os.read(worker.reports, 1 << 16)
        if not data:
            raise self._death(worker)
        *lines, rest = (bytes(worker.begun) + data).split(b"\n")
        worker.begun[:] = rest
        for line in lines:
            report = json.loads(line)
            if "error" in report:
                raise ERRORS[report["error"]](report["text"])
            number, place = divmod(report["task"] - 1, PLACES)
            self.asked[number - self.asked[0].number].layouts[place] = _layout(*report["layout"])
        return bool(lines)

    def _death(self, worker: _Worker) -> WorkerDied:
        worker.process.join(_END_LIMIT_S)
        code = worker.process.exitcode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        busy = ""
        number, place = divmod(self.board.read()[self.workers.index(worker)] - 1, PLACES)
        # An older number is of a sample that has arrived: the worker died before it cleared the number.
        if number >= self.asked[0].number:
            name = sample_name(self.dataset, self.asked[number - self.asked[0].number].keys[place])
            busy = f" while making the sample of {name}"
        return WorkerDied(
            f"a data worker died: process {worker.process.pid} ended {how}{busy}; was it killed, or is the memory "
            "full? Start again to go on"
        )

    def _silence(self, silent_s: float) -> WorkerDied:
        """Name the first sample that is missing, and what its worker does instead."""
        batch = self.asked[0]
        place = min(set(range(len(batch.keys))) - set(batch.layouts))
        task, tasks = task_number(batch.number, place), self.board.read()
        busy = [worker for worker, theirs in zip(self.workers, tasks) if theirs == task] or self.workers
        states = ", ".join(f"{worker.process.pid} ({_state(worker.process.pid)})" for worker in busy)
        name = sample_name(self.dataset, batch.keys[place])
        return WorkerDied(
            f"no sample for {silent_s:.0f} s: data worker {states} owes that of {name}. Was it stopped, or does the "
            "disk of its files not answer? Start again to go on"
        )


def _layout(image_shape: List[int], image_dtype: str, label_shape: List[int], label_dtype: str) -> Layout:
    return Layout(tuple(image_shape), image_dtype, tuple(label_shape), label_dtype)


@contextlib.contextmanager
def _children_without(signals: FrozenSet[int]) -> Iterator[None]:
    """Processes started meanwhile never get these signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_STATES = {"T": "stopped", "t": "stopped", "D": "waiting for a disk", "R": "computing", "S": "asleep", "Z": "dead"}


def _state(pid: int) -> str:
    """What a process does, by the kernel's account."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1]
    except OSError:
        return "gone"
    return _STATES.get(letter, letter)
