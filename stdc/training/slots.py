"""Memory that data workers write samples into and the trainer reads batches from, without a copy in between.

Each piece is a file without a name, in memory: the kernel frees it with the last process that has it open, so a kill -9
leaves nothing behind, and it does not count against the size of /dev/shm, which is 64 MB in many containers.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing.reduction import DupFd
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import numpy as np


class Layout(NamedTuple):
    """Shapes and types of one sample.

    Attributes:
        image_shape, label_shape: of one sample's arrays.
        image_dtype, label_dtype: names of NumPy's types, such as "uint8".
    """

    image_shape: Tuple[int, ...]
    image_dtype: str
    label_shape: Tuple[int, ...]
    label_dtype: str

    @classmethod
    def of(cls, image: np.ndarray, label: np.ndarray) -> Layout:
        """The layout of one sample."""
        return cls(image.shape, image.dtype.name, label.shape, label.dtype.name)


class Handle:
    """A file descriptor that arrives open in a process being spawned when it is among its arguments."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Tuple[Callable[[Any], Handle], Tuple[Any]]:
        return _arrived, (DupFd(self.number),)

    def close(self) -> None:
        """Close it in this process."""
        os.close(self.number)


def _arrived(duplicate: Any) -> Handle:
    return Handle(duplicate.detach())


def open_memory() -> Handle:
    """A new file without a name; on a disk only where the system cannot make one in memory."""
    try:
        return Handle(os.memfd_create("stdc-samples"))
    except (AttributeError, OSError):
        with tempfile.TemporaryFile() as file:
            return Handle(os.dup(file.fileno()))


class Slot:
    """Memory of one batch: its images, then its labels.

    Args:
        handle: shared with the other side; a new one is made where there is none.
    """

    def __init__(self, handle: Optional[Handle] = None) -> None:
        self.handle = open_memory() if handle is None else handle
        self._memory: Optional[mmap.mmap] = None

    def __reduce__(self) -> Tuple[Any, Tuple[Handle]]:
        return Slot, (self.handle,)

    def arrays(self, layout: Layout, count: int) -> Tuple[np.ndarray, np.ndarray]:
        """Views of the images and the labels of a batch of `count` samples; the slot grows where it is too small.

        Raises:
            OSError: there is no memory left.
        """
        images, labels = (int(np.prod(shape)) * count for shape in (layout.image_shape, layout.label_shape))
        start = images * np.dtype(layout.image_dtype).itemsize
        memory = self._mapped(start + labels * np.dtype(layout.label_dtype).itemsize)
        return (
            np.frombuffer(memory, layout.image_dtype, images).reshape(count, *layout.image_shape),
            np.frombuffer(memory, layout.label_dtype, labels, start).reshape(count, *layout.label_shape),
        )

    def _mapped(self, size: int) -> mmap.mmap:
        if self._memory is None or len(self._memory) < size:
            if os.fstat(self.handle.number).st_size < size:
                # Reserved, not only promised: a page that is missing later would end the process by SIGBUS.
                os.posix_fallocate(self.handle.number, 0, size)
            self._memory = mmap.mmap(self.handle.number, size)
        return self._memory

    def close(self) -> None:
        """Give the slot up; views of it stay valid for as long as they are held."""
        self.handle.close()
        self._memory = None


class Board:
    """One number per worker that both sides see: the task that the worker is busy with, 0 for none."""

    def __init__(self, workers: int, slot: Optional[Slot] = None) -> None:
        self.slot = Slot() if slot is None else slot
        self._numbers, _ = self.slot.arrays(Layout((), "int64", (0,), "uint8"), workers)

    def __reduce__(self) -> Tuple[Any, Tuple[int, Slot]]:
        return Board, (len(self._numbers), self.slot)

    def write(self, worker: int, task: int) -> None:
        """In a worker: say what it is busy with."""
        self._numbers[worker] = task

    def read(self) -> List[int]:
        """What each worker is busy with."""
        return [int(number) for number in self._numbers]

    def close(self) -> None:
        """Give the memory up in this process."""
        self.slot.close()
