"""The weights file inside a tar archive, as PaddleSeg packs its backbones: `STDCNet1.tar.gz` around `model.pdparams`.

Read by hand and in one pass; nothing is unpacked to the disk, so no name can escape. Python's `tarfile` follows
whatever sizes an archive claims: names of gigabytes, headers for all members that are copied to each of a hundred
thousand. Here a header is 512 bytes, members and unpacked bytes are counted, and one member is kept.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, List, Tuple

from stdc import files
from stdc.errors import InputError, shortened
from stdc.weights.pickles import RefusedError

#: The largest weights file taken out of an archive; this network's have at most 52 MB.
_LARGEST_MEMBER = 80 << 20
#: What an archive may unpack to: a state dict beside its optimizer's, logs, and pictures.
_MOST_UNPACKED = 512 << 20
_MOST_MEMBERS = 1000
_LONGEST_NAME = 1 << 16

_BLOCK = 512
_GZIP_MAGIC = b"\x1f\x8b"
_MAGIC_AT = 257
_MAGIC = b"ustar"
_REGULAR = (b"0", b"\0", b"7")
#: Members that hold the name of the next one: GNU's, and POSIX's with `path=`.
_GNU_NAME, _POSIX_NAME = b"L", b"x"


def is_tar(path: Path) -> bool:
    """Whether a file starts like a tar archive, packed by gzip or not."""
    with files.open_file(path) as handle:
        start = handle.read(_MAGIC_AT + len(_MAGIC))
    return start.startswith(_GZIP_MAGIC) or start.endswith(_MAGIC)


def read_member(path: Path, suffix: str = ".pdparams") -> bytes:
    """The content of the one member with this suffix.

    Raises:
        InputError: damaged, not exactly one such member, or larger than any weights file of this network.
    """
    try:
        with files.open_file(path) as handle:
            packed = handle.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            handle.seek(0)
            stream: BinaryIO = gzip.GzipFile(fileobj=handle) if packed else handle  # type: ignore[assignment]
            found, others = _members(stream, suffix)
            if packed:
                _check_end(stream)
    except RefusedError as refused:
        raise InputError(f"{path}: refused: {refused}") from None
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a readable archive ({error})") from None
    if len(found) != 1:
        listed = f" beside {', '.join(others[:3])}" if others else ""
        raise InputError(f"{path}: one {suffix} file is expected in it, found {len(found)}{listed}")
    return found[0]


def _check_end(stream: BinaryIO) -> None:
    """Read on to the end of a packed stream, where its checksum is compared."""
    left = _MOST_UNPACKED
    while left > 0:
        count = len(stream.read(1 << 20))
        if not count:
            return
        left -= count
    raise RefusedError(f"it unpacks to more than {_MOST_UNPACKED >> 20} MB")


def _members(stream: BinaryIO, suffix: str) -> Tuple[List[bytes], List[str]]:
    """(contents of the regular members with the suffix, names of the others)."""
    found: List[bytes] = []
    others: List[str] = []
    left, next_name = _MOST_UNPACKED, ""
    for _ in range(_MOST_MEMBERS):
        header = stream.read(_BLOCK)
        if not header.strip(b"\0"):
            # Archives end with empty blocks; some writers leave them out.
            return found, others
        size, kind = _checked_size(header), header[156:157]
        padded = -(-size // _BLOCK) * _BLOCK
        left -= padded
        if left < 0:
            raise RefusedError(f"it unpacks to more than {_MOST_UNPACKED >> 20} MB")
        if kind in (_GNU_NAME, _POSIX_NAME):
            if size > _LONGEST_NAME:
                raise RefusedError(f"a name of {size} bytes")
            next_name = _name_in(_read(stream, padded)[:size], kind)
            continue
        name = next_name or header[:100].split(b"\0", 1)[0].decode("utf-8", "replace")
        next_name = ""
        # "._…" holds the attributes that macOS packs beside each file.
        if kind in _REGULAR and name.endswith(suffix) and not name.rpartition("/")[2].startswith("._"):
            if size > _LARGEST_MEMBER:
                raise RefusedError(f"{shortened(name)} in it has {size} bytes; a weights file has at most 52 MB")
            found.append(_read(stream, padded)[:size])
            if len(found) > 1:
                return found, others
            continue
        others.append(shortened(name))
        while padded:
            padded -= len(_read(stream, min(padded, 1 << 20)))
    raise RefusedError(f"more than {_MOST_MEMBERS} members")


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError("it breaks off")
    return data


def _checked_size(header: bytes) -> int:
    """The member's size, of a header whose checksum holds."""
    if len(header) != _BLOCK:
        raise EOFError("it breaks off")
    stated = int(header[148:156].strip(b" \0") or b"0", 8)
    if stated != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise ValueError("a header with a wrong checksum")
    # Sizes beyond 8 GB are written in binary, behind a first byte from 128 on; nothing here is as large.
    size = int(header[124:136].strip(b" \0") or b"0", 8)
    if size < 0:
        raise ValueError("a member of negative size")
    return size


def _name_in(data: bytes, kind: bytes) -> str:
    if kind == _GNU_NAME:
        return data.split(b"\0", 1)[0].decode("utf-8", "replace")
    # POSIX: lines of "<length> <key>=<value>".
    for line in data.split(b"\n"):
        _, _, entry = line.partition(b" ")
        if entry.startswith(b"path="):
            return entry[len(b"path=") :].decode("utf-8", "replace")
    return ""
