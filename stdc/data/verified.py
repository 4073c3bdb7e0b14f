"""Files that are read only if they are the ones that were checked.

The manifest and the index of label rasters hold the SHA-256 of every file. Each process compares it where it first
reads the file, and again whenever the file's size, times, or inode have changed since.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Dict, Optional, Tuple

import numpy as np

from stdc.errors import InputError, shown

#: Largest file that is read; each is held in memory as a whole.
MAX_FILE_BYTES = 1 << 28

#: What this process has verified: by path, the digest and how the file looked then.
_verified: Dict[str, Tuple[str, Tuple[int, ...]]] = {}


def read_verified(path: Path, sha256: Optional[str] = None) -> np.ndarray:
    """The bytes of a file, (N,) uint8.

    Args:
        sha256: hex digest that the file must have; None for a file that this process has made itself.
    Raises:
        InputError: there is no such file, it is too large, or it is not the one that was checked.
        OSError: it cannot be read now.
    """
    name = str(path)
    try:
        # Without O_NONBLOCK, opening a FIFO that has taken the file's place would wait forever for a writer.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{shown(path)}: no such file; it was there when the dataset was checked") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InputError(f"{shown(path)}: not a file, but it was one when the dataset was checked")
    with os.fdopen(descriptor, "rb") as handle:
        if status.st_size > MAX_FILE_BYTES:
            raise InputError(f"{shown(path)}: {status.st_size} bytes; more than {MAX_FILE_BYTES} are not supported")
        try:
            data = np.fromfile(handle, np.uint8)
        except OSError as error:
            error.filename = error.filename or name
            raise
    if sha256 is not None:
        looks = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if _verified.get(name) != (sha256, looks):
            _compare(path, data, sha256)
            _verified[name] = (sha256, looks)
    return data


def _compare(path: Path, data: np.ndarray, sha256: str) -> None:
    found = hashlib.sha256(data.data).hexdigest()
    if found != sha256:
        raise InputError(
            f"{shown(path)}: not the file that was checked: its SHA-256 is {found[:12]}…, expected {sha256[:12]}…."
            " Restore the file, or start again from the check: a changed image is checked anew by itself, changed label"
            " rasters are made anew once the folder of label rasters is removed"
        )
