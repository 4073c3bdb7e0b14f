"""A data worker: the process that makes samples for the trainer's loader, and the words that the two exchange.

A task reaches all workers through one pipe; a report goes back through a pipe of the worker's own, one JSON line per
sample: `{"task", "layout"}` where the sample lies in its slot, `{"error", "text"}` where there is none.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import traceback
from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, Dict, List

from stdc.errors import InputError, RunError
from stdc.machine.lifetime import die_with_parent
from stdc.training.slots import Board, Layout, Slot

#: A task: its number, the slot, the number of samples of the batch, the key of the sample.
TASK = struct.Struct("<4q")
#: A task's number is the batch's number times this, plus the sample's place in the batch, plus 1.
PLACES = 1 << 20

#: How an error arrives on the other side, by the word that a report uses for it.
ERRORS: Dict[str, Callable[[str], Exception]] = {"input": InputError, "run": RunError, "fault": RuntimeError}


def task_number(batch: int, place: int) -> int:
    """The number of the task that makes the sample at `place` of a batch; never 0, which stands for no task."""
    return batch * PLACES + place + 1


def sample_name(dataset: Any, key: int) -> str:
    """What a sample is called in messages: its frame, where the dataset can tell."""
    return str(dataset.frame(key)) if hasattr(dataset, "frame") else f"sample {key}"


def serve(index: int, handles: Any, board: Board, slots: List[Slot], parent: int) -> None:
    """Make samples until there are no tasks, or the trainer is gone.

    Args:
        index: which of the workers this is: its place on the board.
        handles: the pickled dataset, the end of the pipe that tasks come from, the end that reports go to.
        board: where each worker writes the number of the task it is busy with.
        slots: memory of the batches under way.
        parent: process id of the trainer, with which this process dies.
    """
    die_with_parent(parent)
    # Ctrl-C and a scheduler's signals to the group are for the trainer, which needs the workers to end its step.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pickled, tasks, reports = (handle.number for handle in handles)
    # One core per worker; OpenCV would start a thread pool in each.
    import cv2

    cv2.setNumThreads(1)
    try:
        dataset = ForkingPickler.loads(os.pread(pickled, os.fstat(pickled).st_size, 0))
    except Exception:
        _report(reports, {"error": "fault", "text": f"a data worker could not start\n{traceback.format_exc()}"})
        return
    while True:
        task = os.read(tasks, TASK.size)
        if len(task) < TASK.size:
            return
        number, slot, count, key = TASK.unpack(task)
        board.write(index, number)
        _report(reports, _make(dataset, key, number, slots[slot], count))
        board.write(index, 0)


def _report(pipe: int, message: Dict[str, Any]) -> None:
    line = json.dumps(message).encode("utf-8") + b"\n"
    while line:
        line = line[os.write(pipe, line) :]


def _make(dataset: Any, key: int, number: int, slot: Slot, count: int) -> Dict[str, Any]:
    """Put one sample into its place; the report about it."""
    try:
        image, label = dataset[key]
        layout = Layout.of(image, label)
        images, labels = slot.arrays(layout, count)
        place = (number - 1) % PLACES
        images[place], labels[place] = image, label
    except InputError as error:
        return {"error": "input", "text": str(error)}
    except RunError as error:
        return {"error": "run", "text": str(error)}
    except OSError as error:
        return {"error": "run", "text": f"{sample_name(dataset, key)}: {error}"}
    except Exception as error:
        described = f"{sample_name(dataset, key)}: {type(error).__name__}: {error}"
        return {"error": "fault", "text": f"{described}\n{traceback.format_exc()}"}
    return {"task": number, "layout": layout}
