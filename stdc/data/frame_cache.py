"""Decoded frames on disk, so that a training crop costs the copy of its window and not the decoding of two PNG files.

One file per frame, in blocks of 64 x 256 pixels with a checksum each: a crop reads the blocks that it touches. A file
is written by whichever process decodes its frame first and appears at once, complete; of two that do it at the same
time one replaces the other by the same bytes. The folder is named by the manifest and each file holds the digests of
its image and its label, so nothing in it is ever stale. A file that is damaged, cut or gone is made anew.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, Iterator, Optional, Tuple

import numpy as np

from stdc.data.codecs import crc32
from stdc.data.entry import Entry

#: Pixels of a block; with its three colors and its label it takes 64 KiB.
_ROWS, _COLUMNS = 64, 256
_BLOCK_BYTES = _ROWS * _COLUMNS * 4
#: Name of the format, height, width, SHA-256 of the image file and of the label file.
_HEAD = struct.Struct("<8sII32s32s")
_FORMAT = b"stdcdec1"
_PAGE = 4096
_TEMPORARY = ".tmp-"
_SUFFIX = ".frame"
#: No process takes longer than this to write a frame, so an older temporary file is abandoned.
_WRITING_S = 3600.0


def frame_bytes(height: int, width: int) -> int:
    """Bytes that one frame takes on the disk."""
    blocks = -(-height // _ROWS) * -(-width // _COLUMNS)
    return _data_start(blocks) + blocks * _BLOCK_BYTES


def open_frame_cache(
    folder: Path, manifest_sha256: str, sizes: Iterable[Tuple[int, int]], limit_gb: float
) -> FrameCache:
    """The cache of one dataset below a folder that is given to caches.

    Args:
        manifest_sha256: names the frames' folder.
        sizes: (height, width) that occur; the largest decides how many frames fit.
        limit_gb: most that the frames may take, in 10^9 bytes.
    """
    largest = max(frame_bytes(height, width) for height, width in sizes)
    return FrameCache(folder / manifest_sha256[:16], int(limit_gb * 1e9) // largest)


class FrameCache:
    """Decoded frames of one dataset.

    Args:
        folder: for this manifest and these labels alone; made with the first frame.
        limit: number of frames that are kept, the first ones of the list: no process has to count what others wrote.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def read(self, index: int, entry: Entry) -> Optional[Tuple[Any, Any]]:
        """Image and label of a frame; None where they are not here.

        Returns:
            Two planes, (H, W, 3) and (H, W), uint8, that are read when they are sliced, or whole by `numpy.asarray`.
        """
        if index >= self.limit:
            return None
        try:
            blocks = _Blocks(self._path(entry), _digests(entry))
        except (OSError, DamagedFrameError):
            return None
        return Plane(blocks, 3), Plane(blocks, 1)

    def write(self, index: int, entry: Entry, image: np.ndarray, label: np.ndarray) -> None:
        """Keep a decoded frame, where it is one of those that are kept and the disk has room."""
        if index >= self.limit or entry.image_sha256 is None or entry.label_sha256 is None:
            return
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=str(self.folder))
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(_encode(entry, image, label))
            Path(temporary).replace(self._path(entry))
        except OSError:
            # On a full or failing disk the training goes on without the cache.
            self.limit = 0
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()

    def tidy(self) -> None:
        """Remove what killed writers left, and the frames of other manifests and labels beside this folder."""
        for path in self.folder.parent.iterdir() if self.folder.parent.is_dir() else ():
            if path.is_symlink() or not path.is_dir():
                continue
            for file in path.glob(f"{_TEMPORARY}*"):
                with contextlib.suppress(OSError):
                    if time.time() - file.stat().st_mtime > _WRITING_S:
                        file.unlink()
            for file in path.glob(f"*{_SUFFIX}") if path != self.folder else ():
                with contextlib.suppress(OSError):
                    file.unlink()
            if path != self.folder and not any(path.iterdir()):
                path.rmdir()

    def _path(self, entry: Entry) -> Path:
        return self.folder / f"{entry.frame}{_SUFFIX}"


class Plane:
    """The image or the label of a cached frame; looks like an array where a window is cut out of it."""

    def __init__(self, blocks: _Blocks, channels: int) -> None:
        self._blocks, self._channels = blocks, channels
        self.shape = (blocks.height, blocks.width, 3) if channels == 3 else (blocks.height, blocks.width)

    def __getitem__(self, window: Tuple[slice, slice]) -> np.ndarray:
        rows, columns = (range(*part.indices(size)) for part, size in zip(window, self.shape))
        result = np.empty((len(rows), len(columns), *self.shape[2:]), np.uint8)
        for row, column, block in self._blocks.touched(rows, columns):
            top, left = max(rows.start, row), max(columns.start, column)
            bottom, right = min(rows.stop, row + _ROWS), min(columns.stop, column + _COLUMNS)
            pixels = _image_of(block) if self._channels == 3 else _label_of(block)
            result[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = pixels[
                top - row : bottom - row, left - column : right - column
            ]
        return result

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        whole = self[:, :]
        return whole if dtype is None else whole.astype(dtype)


class DamagedFrameError(Exception):
    """A cached frame is not what was written."""


class _Blocks:
    """The blocks of one file, each read and checked once."""

    def __init__(self, path: Path, digests: bytes) -> None:
        self._path = path
        self._known: Dict[int, np.ndarray] = {}
        with _opened(path) as file:
            name, self.height, self.width, image, label = _HEAD.unpack(_exactly(file.read(_HEAD.size), _HEAD.size))
            if name != _FORMAT or image + label != digests:
                raise DamagedFrameError(str(path))
            self._across = -(-self.width // _COLUMNS)
            count = -(-self.height // _ROWS) * self._across
            sums = _exactly(file.read(4 * count + 4), 4 * count + 4)
        head = _HEAD.pack(name, self.height, self.width, image, label) + sums[:-4]
        if crc32(head) != int.from_bytes(sums[-4:], "little"):
            raise DamagedFrameError(str(path))
        self._sums = np.frombuffer(sums[:-4], "<u4")
        self._start = _data_start(count)

    def touched(self, rows: range, columns: range) -> Iterator[Tuple[int, int, np.ndarray]]:
        """First row, first column and content of every block that a window touches."""
        with _opened(self._path) as file:
            for row in range(rows.start - rows.start % _ROWS, rows.stop, _ROWS):
                for column in range(columns.start - columns.start % _COLUMNS, columns.stop, _COLUMNS):
                    number = row // _ROWS * self._across + column // _COLUMNS
                    if number not in self._known:
                        self._known[number] = self._read(file.fileno(), number)
                    yield row, column, self._known[number]

    def _read(self, descriptor: int, number: int) -> np.ndarray:
        data = os.pread(descriptor, _BLOCK_BYTES, self._start + number * _BLOCK_BYTES)
        if len(data) != _BLOCK_BYTES or crc32(data) != self._sums[number]:
            raise DamagedFrameError(str(self._path))
        return np.frombuffer(data, np.uint8)


def _opened(path: Path) -> BinaryIO:
    # Without O_NONBLOCK, a worker would wait for the writer of a pipe that has taken the frame's place.
    descriptor = os.open(str(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFrameError(str(path))
    return os.fdopen(descriptor, "rb")


def _encode(entry: Entry, image: np.ndarray, label: np.ndarray) -> Iterator[bytes]:
    height, width = label.shape
    blocks = []
    for top in range(0, height, _ROWS):
        for left in range(0, width, _COLUMNS):
            block = np.zeros(_BLOCK_BYTES, np.uint8)
            for source, pixels in ((image, _image_of(block)), (label, _label_of(block))):
                part = source[top : top + _ROWS, left : left + _COLUMNS]
                pixels[: part.shape[0], : part.shape[1]] = part
            blocks.append(block.tobytes())
    digests = _digests(entry)
    head = _HEAD.pack(_FORMAT, height, width, digests[:32], digests[32:])
    head += np.array([crc32(block) for block in blocks], "<u4").tobytes()
    head += crc32(head).to_bytes(4, "little")
    yield head.ljust(_data_start(len(blocks)), b"\0")
    yield from blocks


def _image_of(block: np.ndarray) -> np.ndarray:
    return block[: 3 * _ROWS * _COLUMNS].reshape(_ROWS, _COLUMNS, 3)


def _label_of(block: np.ndarray) -> np.ndarray:
    return block[3 * _ROWS * _COLUMNS :].reshape(_ROWS, _COLUMNS)


def _data_start(blocks: int) -> int:
    return -(-(_HEAD.size + 4 * blocks + 4) // _PAGE) * _PAGE


def _digests(entry: Entry) -> bytes:
    return b"".join(bytes.fromhex(digest or "") for digest in (entry.image_sha256, entry.label_sha256))


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise DamagedFrameError("cut off")
    return data
