"""What the dataset folder is, looked at without opening a file."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Iterator, List, Tuple

ARCHIVES = ("gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip")
_TOP = ("gtFine", "gtFine_trainvaltest", "leftImg8bit", "leftImg8bit_trainvaltest")
_USED = ("_leftImg8bit.png", "_gtFine_polygons.json", "_gtFine_labelIds.png", "_gtFine_instanceIds.png")
#: wrapper / kind / split / city
_DEPTH = 4


def kind_of(folder: Path) -> str:
    """`archives` where there are official zips and nothing unpacked, else `folder`."""
    unpacked = any((folder / name).is_dir() for name in _TOP)
    packed = any((folder / name).is_file() for name in ARCHIVES)
    return "archives" if packed and not unpacked else "folder"


def key_of(folder: Path) -> str:
    """A name for what is made from this folder: readable, safe in a path, one for each absolute path."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", folder.name).strip(".")[:40] or "dataset"
    return f"{readable}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def fingerprint(folder: Path) -> str:
    """Changes when a file that is used appears, goes, or changes its size or time.

    20,000 files take a fraction of a second: names and times are read, no content.
    """
    entries: List[Tuple[str, int, int]] = []
    for name in ARCHIVES:
        path = folder / name
        if path.is_file():
            entries.append(_entry(name, path.stat()))
    for name in _TOP:
        if (folder / name).is_dir():
            entries.extend(_walk(str(folder / name), name, _DEPTH))
    text = "\n".join(f"{name}\t{size}\t{time}" for name, size, time in sorted(entries))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def local_path(words: str) -> Path:
    """A path as the user wrote it, absolute: `~` is expanded here and nowhere else in the workflow."""
    # Not resolved: a link keeps its name, which names what is made from it.
    return Path(os.path.abspath(Path(words).expanduser()))  # noqa: PTH100


def file_fingerprint(source: str) -> str:
    """Size and time of a local file; empty for anything else, such as a URL."""
    try:
        status = local_path(source).stat()
    except (OSError, ValueError, RuntimeError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _entry(name: str, status: os.stat_result) -> Tuple[str, int, int]:
    return name, status.st_size, status.st_mtime_ns


def _walk(folder: str, name: str, depth: int) -> Iterator[Tuple[str, int, int]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        # A folder that may not be read: check_dataset names it, as it names dead links and links to themselves.
        yield name, -1, -1
        return
    for entry in entries:
        inner = f"{name}/{entry.name}"
        try:
            if entry.name.endswith(_USED):
                yield _entry(inner, entry.stat())
                continue
            is_folder = entry.is_dir()
        except OSError:
            yield inner, -1, -1
            continue
        if depth and is_folder:
            yield from _walk(entry.path, inner, depth - 1)
