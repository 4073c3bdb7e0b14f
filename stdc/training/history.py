"""`history.jsonl` of a run: one JSON line per event, in order, without gaps or repeats over resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping

from stdc import files


class History:
    """The file of a run at work.

    Args:
        path: the file; what a killed process wrote beyond its last checkpoint goes.
        start: the history up to the checkpoint, as `text` gave it then.
    """

    def __init__(self, path: Path, start: str = "") -> None:
        self.path = path
        files.write_text(path, start)
        self._handle = path.open("a", encoding="utf-8")

    def add(self, event: Mapping[str, Any]) -> None:
        """Append one event and hand it to the operating system at once.

        Raises:
            ValueError: a number is not finite.
        """
        try:
            self._handle.write(json.dumps(event, sort_keys=True, allow_nan=False) + "\n")
            self._handle.flush()
        except OSError as error:
            error.filename = str(self.path)
            raise

    def text(self) -> str:
        """All of it, for a checkpoint."""
        return files.read_text(self.path, "a history")

    def close(self) -> None:
        """Close the file; no event can be added any more."""
        self._handle.close()


def read_history(path: Path) -> List[Dict[str, Any]]:
    """The events of a file. A last line that a killed process left half-written is dropped.

    Raises:
        ValueError: another line is no JSON; names its number.
    """
    events = []
    lines = files.read_text(path, "a history").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            events.append(json.loads(line))
        except ValueError:
            # Only the last line can have been cut off: each other one ends in a line break.
            if number < len(lines):
                raise ValueError(f"{path}: line {number} is not JSON") from None
    return events
