"""Files that are either complete or absent.

Every output is written under a temporary name in the same folder, flushed to the disk and renamed; text is sorted by
its maker, so equal runs give equal bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any, Iterator, Union

from stdc.errors import InputError, shown

PathLike = Union[str, Path]

_CHUNK_BYTES = 1 << 20
_TEMPORARY = ".tmp-"


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed, on any error it is removed.

    The suffix is kept, since libraries choose the format by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(target)
    # In a container the same process number comes again, and with it what a killed process of that number left.
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        yield temporary
        with temporary.open("rb") as handle:
            fsync(handle)
        temporary.replace(target)
        fsync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            # A full disk is reported without a name.
            error.filename = str(target)
        raise


def temporary_path(target: PathLike) -> Path:
    """Where this process writes `target` before it is renamed: beside it, with its suffix."""
    path = Path(target)
    return path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")


def remove_temporaries(folder: PathLike) -> None:
    """Delete what killed writers left in `folder`. Call only where no other process can be writing there."""
    path = Path(folder)
    for left in path.glob(f"{_TEMPORARY}*") if path.is_dir() else ():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                left.unlink()


def fsync(handle: IO[Any]) -> None:
    """Make the content of an open file survive a power loss."""
    os.fsync(handle.fileno())


def fsync_folder(folder: PathLike) -> None:
    """Make renames in `folder` survive a power loss."""
    descriptor = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such call for folders; they write names at once.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def sync_files(folder: PathLike) -> None:
    """Make all that was written below `folder` survive a power loss: one call instead of one per file.

    Raises:
        OSError: something could not be written; the disk may be full.
    """
    descriptor = os.open(str(folder), os.O_RDONLY)
    try:
        # Python has no function for it; glibc and musl have. Its whole file system is written, whose other files wait
        # for the same disk anyway.
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def replace_bytes(path: PathLike, data: bytes) -> None:
    """Write `data` under a temporary name and rename it, without waiting for the disk: see `sync_files`."""
    target = Path(path)
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    try:
        with temporary.open("xb", buffering=0) as handle:
            if data and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle.fileno(), 0, len(data))
            handle.write(data)
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)
        raise


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write `data` atomically."""
    with atomic_path(path) as temporary, temporary.open("xb") as handle:
        if data and hasattr(os, "posix_fallocate"):
            # A full disk is reported before a byte is written.
            os.posix_fallocate(handle.fileno(), 0, len(data))
        handle.write(data)
        handle.flush()


def write_text(path: PathLike, text: str) -> None:
    """Write `text` as UTF-8 atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: PathLike, value: Any) -> None:
    """Write `value` as sorted, indented JSON. NaN and infinity are refused: they are not JSON.

    Raises:
        ValueError: a number is not finite.
    """
    write_text(path, json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Parse a JSON file; a byte order mark in front is skipped.

    Raises:
        InputError: the file is missing or not JSON.
        OSError: it cannot be read now.
    """
    try:
        with Path(path).open(encoding="utf-8-sig") as handle:
            return json.load(handle)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{shown(path)}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{shown(path)}: a folder, expected a JSON file") from None
    except RecursionError:
        raise InputError(f"{shown(path)}: not readable as JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{shown(path)}: not readable as JSON ({shown(error)})") from None


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces. Used for hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: PathLike) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        for chunk in iter(lambda: handle.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()
