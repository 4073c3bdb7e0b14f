"""What a check has found so far, so that one that was killed goes on where it was.

One line per frame is appended as soon as the frame is checked, and only for sound frames. A line counts as long as
every file of its frame has the same path, size, times, and inode, and the same code would check it: anything else is
checked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

from stdc.data.frame_checks import Checks, FrameReport
from stdc.data.layout import Frame
from stdc.errors import InputError
from stdc.files import canonical_json, open_file, sha256_text, write_text

#: A file that was written this shortly before it was checked may change once more without a change of its times.
_UNSETTLED_S = 0.1
#: Largest journal that is read: a line takes about a kilobyte.
_MAX_BYTES = 4 << 30


class Journal:
    """The journal of one check.

    Args:
        path: its file; where it lies, nothing else writes.
        root: the dataset.
        checks: how strictly the frames are checked.
        code: what decides how a frame is checked; another code trusts no line.
    """

    def __init__(self, path: Path, root: Path, checks: Checks, code: str) -> None:
        self._path = path
        self._root = root
        self._context = canonical_json([*checks, code])
        self._handle: Optional[Any] = None

    def known(self, frames: Iterable[Frame]) -> Dict[Tuple[str, str], FrameReport]:
        """Reports that still hold, by split and name of the frame. Forgets all others, and opens the journal."""
        lines = self._lines()
        kept: List[str] = []
        reports = {}
        for frame in frames if lines else ():
            key = self.key(frame)
            report = _report(lines[key]) if key in lines else None
            if key is not None and report is not None:
                kept.append(_line(key, report))
                reports[frame.split, frame.name] = report
        write_text(self._path, "".join(kept))
        self._handle = self._path.open("a", encoding="utf-8")
        return reports

    def key(self, frame: Frame) -> Optional[str]:
        """What names the state of a frame's files; None if one of them cannot be looked at or has just been written."""
        states = []
        for path in sorted(frame.files.values()):
            try:
                status = (self._root / path).stat()
            except OSError:
                return None
            if abs(time.time() - max(status.st_mtime, status.st_ctime)) < _UNSETTLED_S:
                return None
            states.append([path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev])
        return sha256_text(canonical_json([self._context, frame.split, frame.name, states]))

    def add(self, key: Optional[str], frame: Frame, report: FrameReport) -> None:
        """Note a frame that is sound.

        Args:
            key: of the frame before it was checked; a file that changed meanwhile is not noted.
        """
        if self._handle is None or key is None or report.problems or key != self.key(frame):
            return
        try:
            self._handle.write(_line(key, report))
            # Not fsynced: a kill loses nothing that the kernel has, and after a power loss the files are checked anew.
            self._handle.flush()
        except OSError:
            # A full disk ends the journal, not the check.
            self.close()

    def close(self) -> None:
        """Write what is not yet written."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self._handle.close()
                if self._path.stat().st_size == 0:
                    self._path.unlink()
            self._handle = None

    def _lines(self) -> Dict[Optional[str], Any]:
        """The lines that came whole, by key; whatever else lies there is ignored."""
        try:
            with open_file(self._path) as handle:
                data = handle.read(_MAX_BYTES + 1)
            text = data.decode("utf-8", "replace") if len(data) <= _MAX_BYTES else ""
        except (InputError, OSError):
            return {}
        found: Dict[Optional[str], Any] = {}
        for line in text.splitlines():
            digest, _, body = line.partition(" ")
            # A kill or a power loss may leave half a line, or zeros.
            if digest == hashlib.sha256(body.encode()).hexdigest()[:16]:
                key, content = json.loads(body)
                found[key] = content
        return found


def _line(key: str, report: FrameReport) -> str:
    body = canonical_json([key, report._replace(label_ids=sorted(report.label_ids.items()))])  # type: ignore[arg-type]
    return f"{hashlib.sha256(body.encode()).hexdigest()[:16]} {body}\n"


def _report(content: Any) -> Optional[FrameReport]:
    try:
        report = FrameReport(*content)
        return report._replace(size=tuple(report.size), label_ids=dict(report.label_ids))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
