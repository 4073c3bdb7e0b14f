"""Ranks, the processes of one run, one per device, as seen from inside one of them.

A process that trains alone is rank 0 of 1. Otherwise a watcher (`stdc.machine.watcher`) has started it, and what passes
between the processes lies in one folder: `stop`, `rank<r>.json` (an error), `messages.<r>` (lines for the user),
`heartbeat.<r>`, `meet/` (who has arrived where), `logs/` (all that launcher and ranks print).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from stdc import files
from stdc.errors import RunError, StdcError
from stdc.machine.heartbeat import Heartbeat
from stdc.machine.lifetime import die_with_parent

#: Names of what a watcher tells its ranks: its own number, and the folder for what passes between them.
WATCHER_VARIABLE = "STDC_RANK_WATCHER"
FOLDER_VARIABLE = "STDC_RANK_FOLDER"
#: Signals that ask to save and end.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Whether a signal asked this process to save and end. Use as a context manager in the main thread."""

    def __init__(self) -> None:
        self.name: Optional[str] = None
        self._previous: Dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def requested(self) -> bool:
        """Whether to save and end: this process got a signal, or, in a rank, the watcher did."""
        return self.name is not None or (in_rank() and (_folder() / "stop").exists())

    def _note(self, number: int, _: object) -> None:
        self.name = signal.Signals(number).name


def in_rank() -> bool:
    """Whether this process is a rank started by a watcher."""
    return WATCHER_VARIABLE in os.environ and "PADDLE_TRAINER_ID" in os.environ


def rank_and_world() -> Tuple[int, int]:
    """(rank, number of ranks); (0, 1) in a process of its own."""
    if not in_rank():
        return 0, 1
    return int(os.environ["PADDLE_TRAINER_ID"]), int(os.environ["PADDLE_TRAINERS_NUM"])


def without_option(argv: List[str], option: str) -> List[str]:
    """Command line without one option and its value, so that ranks do not all write one log."""
    kept: List[str] = []
    words = iter(argv)
    for word in words:
        if word == option:
            next(words, None)
        elif not word.startswith(option + "="):
            kept.append(word)
    return kept


def enter_rank() -> None:
    """First call of a rank, before paddle is imported: end with the launcher, whatever ends it."""
    die_with_parent()


def tell(line: str) -> None:
    """In a rank: a line for the user, which the watcher passes on."""
    with (_folder() / f"messages.{rank_and_world()[0]}").open("a", encoding="utf-8") as handle:
        handle.write(line + "\n")


def heartbeat() -> Heartbeat:
    """In a rank: the heartbeat that the watcher looks at."""
    return Heartbeat(heartbeat_file(_folder(), rank_and_world()[0]))


def meet(name: str, limit_s: float) -> None:
    """Wait until every rank has called this with the same name; in a process of its own, return at once.

    By files, not by a collective: those of gloo give up after half a minute, and those of NCCL never.

    Args:
        name: of the meeting; each is used once in the life of a run's processes.
    Raises:
        RunError: not all ranks have come after `limit_s` seconds; names those that have not.
    """
    rank, world_size = rank_and_world()
    if world_size == 1:
        return
    folder = _folder() / "meet"
    (folder / f"{name}.{rank}").touch()
    missing = list(range(world_size))
    deadline = time.monotonic() + limit_s
    pause_s = 0.005
    while True:
        missing = [other for other in missing if not (folder / f"{name}.{other}").exists()]
        if not missing:
            return
        if time.monotonic() > deadline:
            numbers = ", ".join(map(str, missing))
            raise RunError(f"rank {rank} waited {limit_s:.0f} s for rank {numbers} ({name}); start again to go on")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)


def exchange(name: str, value: str, limit_s: float) -> List[str]:
    """Tell every rank a short text, and hear theirs; by rank. A process of its own hears itself.

    Raises:
        RunError: see `meet`.
    """
    rank, world_size = rank_and_world()
    if world_size == 1:
        return [value]
    folder = _folder() / "meet"
    files.write_text(folder / f"{name}.{rank}.text", value)
    meet(name, limit_s)
    return [(folder / f"{name}.{other}.text").read_text(encoding="utf-8") for other in range(world_size)]


@contextlib.contextmanager
def reporting_rank() -> Iterator[None]:
    """Leave the error of a rank where the watcher finds it."""
    try:
        yield
    except BaseException as error:
        rank, _ = rank_and_world()
        known = isinstance(error, StdcError)
        code = error.exit_code if isinstance(error, StdcError) else 1
        message = str(error) if known else f"{type(error).__name__}: {error}"
        files.write_json(
            _folder() / f"rank{rank}.json",
            {
                "rank": rank,
                "exit_code": code,
                "message": message,
                "kind": type(error).__name__,
                "time": time.time(),
            },
        )
        raise


def heartbeat_file(folder: Path, rank: int) -> Path:
    """The file of a rank's heartbeat."""
    return folder / f"heartbeat.{rank}"


def _folder() -> Path:
    return Path(os.environ[FOLDER_VARIABLE])
