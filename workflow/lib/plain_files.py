"""Files that are read before any program runs: never a pipe, never without end.

What stands at a path may be anybody's. Opening a pipe waits for its other end, and reading a device has no end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: A log's end and a verdict need far less.
MOST_BYTES = 1 << 26


class NotAFileError(OSError):
    """A folder, a pipe, or a device stands where a file is expected."""


def read_bytes(path: Path, most: int = MOST_BYTES, from_end: bool = False) -> bytes:
    """At most so many bytes of a file, from its start or its end.

    Raises:
        NotAFileError: something else stands there.
        OSError: there is none, or it cannot be read now.
    """
    # Without the flag, opening a pipe waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotAFileError(errno.EINVAL, "not a file", str(path))
    with os.fdopen(descriptor, "rb") as handle:
        if from_end:
            handle.seek(max(0, status.st_size - most))
        return handle.read(most)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8; raises as `read_bytes` does, and ValueError where it is no text."""
    return read_bytes(path).decode("utf-8")
