"""Files that are either complete or absent.

Every output is written under a temporary name in the same folder, flushed to the disk and renamed; text is sorted by
its maker, so equal runs give equal bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import json
import os
import shutil
import stat
from pathlib import Path
from typing import IO, Any, BinaryIO, Dict, Iterator, List, Tuple, Union

from stdc.errors import InputError, shortened, shown

PathLike = Union[str, Path]

_CHUNK_BYTES = 1 << 20
#: Of a file that is held in memory: the manifest of a hundred thousand frames has a fifth of it.
MOST_BYTES = 1 << 28
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
    with _removed_on_error(temporary, target):
        yield temporary
        with temporary.open("rb") as handle:
            fsync(handle)
        temporary.replace(target)
        fsync_folder(target.parent)


@contextlib.contextmanager
def _removed_on_error(temporary: Path, target: Path) -> Iterator[None]:
    """Delete the temporary file when the block ends in an error, which then names the file that was to be written."""
    try:
        yield
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
            error.filename = str(folder)
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
    temporary = temporary_path(target)
    with _removed_on_error(temporary, target):
        with temporary.open("xb", buffering=0) as handle:
            if data and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle.fileno(), 0, len(data))
            handle.write(data)
        temporary.replace(target)


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


class MissingFileError(InputError):
    """There is nothing at a path."""


def open_file(path: PathLike) -> BinaryIO:
    """Open a file to be read; raises as `open_descriptor` does."""
    descriptor = open_descriptor(path, os.O_RDONLY)
    return io.BufferedReader(_NamedFile(str(path), "rb", opener=lambda *_: descriptor))


def open_descriptor(path: PathLike, flags: int) -> int:
    """Open a file by the flags of `os.open`; one that is made gets the mode 0644.

    Raises:
        MissingFileError: there is none.
        InputError: it is a folder, a pipe, or a device, for which a reader or a writer could wait for ever.
        OSError: it cannot be opened now.
    """
    try:
        # Without the flag, opening a pipe waits for its other end.
        descriptor = os.open(str(path), flags | getattr(os, "O_NONBLOCK", 0), 0o644)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{shown(path)}: no such file") from None
    except ValueError:
        raise InputError(f"{shown(path)}: not a name of a file") from None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise InputError(f"{shown(path)}: {_NO_FILE[error.errno]}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(f"{shown(path)}: {found}, expected a file")
    return descriptor


class _NamedFile(io.FileIO):
    """A file whose errors while it is read say its name; Python's do so for opening alone."""

    def readinto(self, buffer: Any) -> int:
        with self._named():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._named():
            return super().readall()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = str(self.name)
            raise


#: What names that lead to no file answer, whatever the state of the disk.
_NO_FILE = {
    errno.ELOOP: "a link that leads back to itself",
    errno.ENAMETOOLONG: "a longer name than any file has",
    errno.EISDIR: "a folder, expected a file",
    errno.ENXIO: "a pipe, a socket or a device, expected a file",
    errno.ENODEV: "a socket or a device, expected a file",
}


def read_bytes(path: PathLike) -> bytes:
    """The bytes of a file; raises as `open_file` does, and where it is larger than any text or picture here."""
    with open_file(path) as handle:
        data = handle.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InputError(f"{shown(path)}: more than {MOST_BYTES} bytes are not supported")
    return data


def read_text(path: PathLike, kind: str = "a text") -> str:
    """The text of a file in UTF-8; a byte order mark in front is skipped.

    Args:
        kind: what it should be, for the message about bytes that are no text.
    Raises:
        InputError: no file (`open_file`), too large, or no UTF-8.
        OSError: it cannot be read now.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)}: not readable as {kind} ({error.reason} at byte {error.start})") from None


def read_json(path: PathLike) -> Any:
    """Parse a JSON file; a byte order mark in front is skipped.

    Raises:
        InputError: the file is missing, not JSON, or says one key twice, of which all but one would be lost.
        OSError: it cannot be read now.
    """
    text = read_text(path, "JSON")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_not_json)
    except RecursionError:
        raise InputError(f"{shown(path)}: not readable as JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{shown(path)}: not readable as JSON ({shortened(error)})") from None


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return made


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not a number of JSON")


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces. Used for hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: PathLike) -> str:
    """Hex SHA-256 of a file's bytes; raises as `open_file` does."""
    digest = hashlib.sha256()
    with open_file(path) as handle:
        for chunk in iter(lambda: handle.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()
