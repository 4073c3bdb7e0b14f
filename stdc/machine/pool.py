"""One function over many items, in worker processes; every failure is reported with its item.

`concurrent.futures` cannot say which item a killed worker was busy with, and its workers outlive a killed parent.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from multiprocessing.connection import Connection, wait
from typing import Any, Callable, Dict, List, Sequence, Tuple, TypeVar

from stdc.errors import InputError, RunError
from stdc.machine.lifetime import die_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

_STOP_SECONDS = 5.0


class WorkerError(RuntimeError):
    """A worker failed by a fault of the program; names the item, and holds the worker's traceback."""


class WorkerDied(RunError):
    """A worker was ended from outside, or found no memory; names the item."""


def run_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    name: Callable[[Item], str],
    done: Callable[[int, Result], None] = lambda index, result: None,
) -> List[Result]:
    """`[function(item) for item in items]`, by `workers` processes; the result does not depend on their number.

    Args:
        function: runs in a forked process; its results must be picklable.
        name: what to call an item in a message.
        done: called in this process after each finished item, with its place in `items` and its result.

    Raises:
        InputError: as raised by `function`; the first one to arrive ends the work.
        OSError: the same; the item is named where the error names no file.
        WorkerDied: a worker died, or had no memory.
        WorkerError: any other error of `function`, with its traceback.
    """
    count = min(workers, len(items))
    if count <= 1:
        results = []
        for index, item in enumerate(items):
            try:
                results.append(function(item))
            except Exception as error:
                raise _rebuild(_describe(error), name(item)) from error
            done(index, results[-1])
        return results
    return _run_processes(function, items, count, name, done)


def _run_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    count: int,
    name: Callable[[Item], str],
    done: Callable[[int, Result], None],
) -> List[Result]:
    context = multiprocessing.get_context("fork")
    processes: List[Any] = []
    busy: Dict[Connection, Tuple[Any, int]] = {}
    results: Dict[int, Result] = {}
    waiting = iter(range(len(items)))
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, function, items, os.getpid()), daemon=True)
            process.start()
            # While this process keeps a copy of the worker's end open, a dead worker does not show as end of file.
            theirs.close()
            processes.append(process)
            index = next(waiting)
            busy[ours] = (process, index)
            ours.send(index)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                process, index = busy[ready]
                try:
                    good, value = ready.recv()
                except (EOFError, ConnectionError):
                    process.join(_STOP_SECONDS)
                    raise WorkerDied(f"{name(items[index])}: {_how_it_ended(process.exitcode)}") from None
                if not good:
                    raise _rebuild(value, name(items[index]))
                results[index] = value
                done(index, value)
                following = next(waiting, None)
                if following is None:
                    del busy[ready]
                else:
                    busy[ready] = (process, following)
                # If the worker died after its last answer, sending fails here; the next receive reports its death.
                with contextlib.suppress(ConnectionError):
                    ready.send(following)
    finally:
        # After an error the other workers finish their item, so that no file is left half-written.
        for connection in busy:
            with contextlib.suppress(OSError):
                connection.send(None)
        deadline = time.monotonic() + _STOP_SECONDS
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
    return [results[index] for index in range(len(items))]


def _serve(connection: Connection, function: Callable[[Any], Any], items: Sequence[Any], parent: int) -> None:
    die_with_parent(parent)
    # Ctrl-C reaches every process of the group; only the parent acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        index = connection.recv()
        if index is None:
            return
        try:
            answer = (True, function(items[index]))
        except Exception as error:
            answer = (False, _describe(error))
        connection.send(answer)


def _describe(error: Exception) -> Tuple[str, Any]:
    """An error as plain data, since some exceptions lose their parts when they are pickled."""
    if isinstance(error, InputError):
        return "input", str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return "os", (error.errno, error.strerror, error.filename)
    if isinstance(error, (MemoryError, WorkerDied)):
        return "lost", str(error) or "no memory left; start fewer processes"
    return "fault", traceback.format_exc()


def _rebuild(described: Tuple[str, Any], item: str) -> Exception:
    kind, value = described
    if kind == "input":
        return InputError(value)
    if kind == "os":
        number, text, filename = value
        return OSError(number, text, filename or item)
    if kind == "lost":
        return WorkerDied(f"{item}: {value}")
    return WorkerError(f"{item}: a worker failed\n{value}")


def _how_it_ended(exit_code: Any) -> str:
    if isinstance(exit_code, int) and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (from outside; out of memory? then start fewer processes)" if exit_code == -signal.SIGKILL else ""
        return f"the worker busy with it was ended by {name}{hint}"
    return f"the worker busy with it ended with exit code {exit_code}"
