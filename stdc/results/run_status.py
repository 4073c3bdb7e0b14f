"""What every run under `runs/` is doing, or how it ended; and which run folders no result needs any more."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from stdc.errors import InputError
from stdc.files import open_descriptor, open_file, read_json

#: What a process says of itself while it is at work.
ACTIVE = ("starting", "running", "evaluating", "saving")
DEAD, UNKNOWN = "dead", "unknown"

#: Without a lock to ask for, on another machine say, a run that has been silent for longer than this counts as dead.
SILENT_S = 600.0

#: How a results folder names a run folder: by the beginning of the run's hash.
_NAME_LENGTH = 16
#: The end of a history, in which its last line stands.
_LAST_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """One run. What is not known is None.

    Attributes:
        folder: of the run, below `runs/`.
        state: "starting", "running", "evaluating", "saving", "stopped", "finished", "diverged", "failed", "dead" (a
            process that was at work and is gone) or "unknown".
        eta_s: seconds to the end.
        wait_share: share of the time that training waits for data.
        miou, best_miou: fractions; of the last evaluation, and the best so far.
        silent_s: seconds since the last sign of life.
        disk_bytes: what the folder holds.
        results: folders `results/<name>/seed<k>` made from this run.
        needed: whether a result was made from it, or it is not finished and can go on.
    """

    folder: str
    state: str
    name: Optional[str]
    seed: Optional[int]
    host: Optional[str]
    pid: Optional[int]
    iteration: Optional[int]
    iterations: Optional[int]
    eta_s: Optional[float]
    loss: Optional[float]
    miou: Optional[float]
    best_miou: Optional[float]
    images_per_s: Optional[float]
    wait_share: Optional[float]
    silent_s: Optional[float]
    disk_bytes: int
    results: List[str]
    needed: bool


def read_runs(runs: Path, results: Path, now: float) -> List[RunStatus]:
    """All runs, those at work first, then by the last sign of life.

    Args:
        runs: folder of run folders.
        results: folder of results folders.
        now: seconds since 1970.
    Raises:
        InputError: `runs` is no folder.
    """
    if not runs.is_dir():
        raise InputError(f"{runs}: no such folder; name the one that holds the run folders by --runs")
    users = _users(results)
    found = [_read_run(folder, users.get(folder.name, []), now) for folder in sorted(runs.iterdir()) if folder.is_dir()]
    return sorted(found, key=lambda run: (run.state not in ACTIVE, run.silent_s or 0.0, run.folder))


def _read_run(folder: Path, results: List[str], now: float) -> RunStatus:
    status = _mapping(folder / "status.json")
    best = status.get("best")
    last = _last_event(folder / "history.jsonl")
    signs = [_changed(folder / name) for name in ("status.json", "heartbeat", "history.jsonl")]
    known = [sign for sign in signs if sign is not None]
    silent = max(0.0, now - max(known)) if known else None
    state = _state(folder, status, silent)
    name, seed = _text(status.get("name")), _whole(status.get("seed"))
    if name is None and results:
        # A status of an earlier version names neither; its results do.
        name, seed = _name_and_seed(results[0])
    return RunStatus(
        folder=folder.name,
        state=state,
        name=name,
        seed=seed,
        host=_text(status.get("host")),
        pid=_whole(status.get("pid")),
        iteration=_first_whole(status.get("iteration"), last.get("iteration")),
        iterations=_whole(status.get("iterations")),
        eta_s=_figure(status.get("eta_s")) if state in ACTIVE else None,
        loss=_figure(status.get("loss")),
        miou=_figure(status.get("miou")),
        best_miou=_figure(best.get("miou") if isinstance(best, dict) else best),
        images_per_s=_figure(status.get("images_per_s")),
        wait_share=_figure(status.get("reader_wait_share")),
        silent_s=silent,
        disk_bytes=sum(_sizes(folder)),
        results=results,
        needed=bool(results) or state != "finished",
    )


def _state(folder: Path, status: Mapping[str, Any], silent_s: Optional[float]) -> str:
    told = _text(status.get("state"))
    if (folder / "diverged.json").exists():
        told = "diverged"
    held = _is_locked(folder / "lock")
    if told is None:
        # Of an earlier version, or killed before its first word.
        return "running" if held else UNKNOWN
    if told not in ACTIVE or held:
        return told
    elsewhere = status.get("host") not in (None, socket.gethostname())
    # A lock of another machine may not be seen from here, where the file system does not carry it over.
    return told if elsewhere and silent_s is not None and silent_s < SILENT_S else DEAD


def _is_locked(path: Path) -> bool:
    """Whether a process holds the run's lock; it ends with the process, also at kill -9."""
    try:
        descriptor = open_descriptor(path, os.O_RDONLY)
    except (InputError, OSError):
        return False
    try:
        # Shared and let go at once: a trainer that starts at this instant tries again within a second.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _users(results: Path) -> Dict[str, List[str]]:
    """Name of a run folder -> the seed folders that were made from it."""
    users: Dict[str, List[str]] = {}
    # Of recipes alone, and of the experiments of sweeps.
    for path in sorted((*results.glob("*/seed*/provenance.json"), *results.glob("*/*/seed*/provenance.json"))):
        run_hash = _text(_mapping(path).get("run_hash"))
        if run_hash:
            users.setdefault(run_hash[:_NAME_LENGTH], []).append(str(path.parent))
    return users


def _name_and_seed(folder: str) -> Tuple[Optional[str], Optional[int]]:
    path = Path(folder)
    digits = path.name[len("seed") :]
    return path.parent.name, int(digits) if digits.isdigit() else None


def _mapping(path: Path) -> Dict[str, Any]:
    """A JSON object; empty where there is none, or none yet."""
    try:
        document = read_json(path)
    except (InputError, OSError):
        return {}
    return document if isinstance(document, dict) else {}


def _last_event(path: Path) -> Dict[str, Any]:
    """The last whole line of a history; empty without one."""
    try:
        with open_file(path) as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - _LAST_BYTES))
            lines = handle.read(_LAST_BYTES).split(b"\n")
    except (InputError, OSError):
        return {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                return event
    return {}


def _changed(path: Path) -> Optional[float]:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(str(folder)):
        for name in names:
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 (os.walk gives text)


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value.isprintable() and value else None


def _whole(value: Any) -> Optional[int]:
    return value if type(value) is int else None


def _first_whole(*values: Any) -> Optional[int]:
    return next((value for value in values if type(value) is int), None)


def _figure(value: Any) -> Optional[float]:
    return (
        float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 else None
    )


def as_document(runs: Sequence[RunStatus], now: float) -> Dict[str, Any]:
    """The same for programs."""
    time = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).isoformat(timespec="seconds")
    return {"format": 1, "time": time, "runs": [dataclasses.asdict(run) for run in runs]}
