"""The folder of a run: its files by name, its lock, what a killed process left, and its status.

The folder belongs to one run hash (`stdc.training.identity`), and to one process at a time.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Any, Iterator, List, Mapping

from stdc import files
from stdc.errors import InputError
from stdc.progress import Log

_LOCK = "lock"
#: What `flock` raises on a network file system without locks: it is not there, or not allowed.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class RunFolder:
    """Names and upkeep of one run's folder.

    Attributes:
        checkpoints, best, pictures, vdl, ranks: folders.
        history, status, identity, diverged, heartbeat, segments: files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.best = path / "best"
        self.pictures = path / "pictures"
        self.vdl = path / "vdl"
        self.ranks = path / "ranks"
        self.history = path / "history.jsonl"
        self.status = path / "status.json"
        self.identity = path / "identity.json"
        self.diverged = path / "diverged.json"
        self.heartbeat = path / "heartbeat"
        self.segments = path / "segments.json"
        self.lock = path / _LOCK

    @contextlib.contextmanager
    def locked(self, log: Log, poll_s: float = 1.0, limit_s: float = 24 * 3600.0) -> Iterator[None]:
        """Hold the folder for this process alone; wait while another one trains in it.

        A kernel lock: it ends with the process, also at ``kill -9``. The descriptor is not inherited by children. Where
        the file system has no locks, the run goes on with a warning.

        Raises:
            TimeoutError: still held after `limit_s` seconds.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = files.open_descriptor(self.lock, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        with os.fdopen(descriptor, "a+", encoding="utf-8") as handle:
            deadline = time.monotonic() + limit_s
            waiting = False
            while not _try_lock(handle, self.path, log):
                if not waiting:
                    handle.seek(0)
                    log(f"waiting: {self.path} is in use by {handle.read().strip() or 'another process'}")
                    waiting = True
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.path} was in use for {limit_s:.0f} s")
                time.sleep(poll_s)
            handle.seek(0)
            handle.truncate()
            handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            handle.flush()
            yield

    def tidy(self, identity: Mapping[str, Any]) -> None:
        """Remove what a killed process left, and write what the folder belongs to. Only while holding the lock."""
        for folder in (self.path, self.checkpoints, self.best, *self.pictures.glob("*")):
            files.remove_temporaries(folder)
        with contextlib.suppress(FileNotFoundError):
            self.diverged.unlink()
        files.write_json(self.identity, identity)

    def write_status(self, state: str, **values: Any) -> None:
        """Write `status.json`: the state, who is at work since when, and whatever else is known.

        Args:
            state: "starting", "running", "evaluating", "saving", "stopped", "finished", "diverged" or "failed".
        """
        files.write_json(
            self.status,
            {
                "state": state,
                "time": now(),
                "pid": os.getpid(),
                "host": socket.gethostname(),
                **values,
            },
        )

    def read_segments(self) -> List[Any]:
        """The parts that the run was done in, oldest first; see `stdc.training.recorder`.

        Nothing but the provenance is made from them, so a file that is damaged ends no training: it counts as none.
        """
        try:
            found = files.read_json(self.segments)
        except InputError:
            return []
        return found if isinstance(found, list) and all(map(_is_segment, found)) else []


def _is_segment(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(type(value.get(key)) is int for key in ("from_iteration", "to_iteration"))
        and all(isinstance(value.get(key), str) for key in ("started", "finished"))
    )


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _try_lock(handle: Any, folder: Path, log: Log) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in _NO_LOCKS:
            error.filename = str(folder / _LOCK)
            raise
        log(f"{folder}: this file system has no locks ({error.strerror}); do not start the same run a second time")
    return True
