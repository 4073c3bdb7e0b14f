"""What can stand where a file is expected, and would keep a careless reader waiting or reading without end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Mapping

OTHER_THINGS: Mapping[str, Callable[[Path], Any]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
}


def put(kind: str, path: Path) -> None:
    """Let something else take a file's place."""
    path.unlink()
    OTHER_THINGS[kind](path)
