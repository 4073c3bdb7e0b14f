"""Signs of life of a process, and who looks after them.

A process writes what it is doing into a small file (`Heartbeat`); a watcher (`Watch`) looks at the files of all
processes and finds the one that has done nothing new for longer than its occupation may take. Only changes count, not
times, so the clocks of several machines need not agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from stdc import files
from stdc.progress import Log

#: What a process may be doing. A step waits for data and trains; the rest happens now and then, and takes its time.
STARTING, WAITING, TRAINING, EVALUATING, SAVING, MEETING = (
    "starting",
    "waiting for data",
    "training",
    "evaluating",
    "saving",
    "waiting for the other ranks",
)

#: Not begun yet; and a node whose watcher is at work, which says so again and again.
ABSENT, PRESENT = "absent", "present"

_FIELD_BYTES = 96


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long a process may give no sign of life before its run is ended.

    Attributes:
        step_s: seconds of waiting for data or of one optimizer step.
        pause_s: seconds of anything else: starting, evaluating, saving, waiting for the others.
        rendezvous_s: seconds until all nodes and all ranks have begun, and between the signs of life of a node.
    """

    step_s: float = 600.0
    pause_s: float = 3600.0
    rendezvous_s: float = 100.0

    def of(self, phase: str) -> float:
        """Seconds that a phase may last."""
        if phase in (ABSENT, PRESENT):
            return self.rendezvous_s
        return self.step_s if phase in (WAITING, TRAINING) else self.pause_s


class Heartbeat:
    """Says what this process is doing. A beat costs some microseconds: one write to an open file.

    Args:
        path: the file; None where nobody looks.
    """

    def __init__(self, path: Optional[Path]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._descriptor = -1 if path is None else files.open_descriptor(path, flags)
        self._count = 0
        self.beat(STARTING, 0)

    def beat(self, phase: str, iteration: int) -> None:
        """Say what begins now, and after how many optimizer steps."""
        self._count += 1
        if self._descriptor >= 0:
            line = f"{self._count}\t{iteration}\t{phase}\n"
            os.pwrite(self._descriptor, line.ljust(_FIELD_BYTES).encode("ascii"), 0)

    def close(self) -> None:
        """Close the file, which keeps the last beat; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclasses.dataclass(frozen=True)
class Sign:
    """The last sign of life of a process: what it said, and for how many seconds it has said nothing else."""

    name: str
    phase: str
    iteration: int
    age_s: float

    def __str__(self) -> str:
        if self.phase == ABSENT:
            return f"{self.name}: not begun, for {self.age_s:.0f} s"
        return f"{self.name}: {self.phase} after iteration {self.iteration}, for {self.age_s:.0f} s"


class Watch:
    """Looks at the heartbeats of several processes.

    Args:
        paths: file of each process by what to call it.
        clock: seconds, monotonic.
    """

    def __init__(self, paths: Dict[str, Path], limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._paths, self._limits, self._clock = paths, limits, clock
        now = clock()
        self._seen: Dict[str, Tuple[str, float]] = dict.fromkeys(paths, ("", now))

    def signs(self) -> List[Sign]:
        """The last sign of each process."""
        found = []
        for name, path in self._paths.items():
            text = ""
            with contextlib.suppress(OSError):
                text = path.read_text(encoding="ascii", errors="replace").strip()
            if text != self._seen[name][0]:
                self._seen[name] = (text, self._clock())
            _, iteration, phase = text.split("\t") if text.count("\t") == 2 else ("", "0", ABSENT)
            found.append(Sign(name, phase, int(iteration), self._clock() - self._seen[name][1]))
        return found

    def silent(self) -> List[Sign]:
        """Processes that have been doing one thing for longer than they may, the longest first."""
        late = [sign for sign in self.signs() if sign.age_s > self._limits.of(sign.phase)]
        return sorted(late, key=lambda sign: -sign.age_s)


@contextlib.contextmanager
def guarded(path: Path, limits: Limits, log: Log, poll_s: float = 1.0) -> Iterator[None]:
    """End this process when its own heartbeat stops: for a process that nobody else watches.

    A thread says why and ends the process with exit code 1. Where the interpreter itself is stuck in a call that lets
    no thread run, the standard library's fault handler does the same a minute later, with a traceback instead of words.
    """
    watch = Watch({"this process": path}, limits)
    ended = threading.Event()
    longest = max(limits.step_s, limits.pause_s)

    def look() -> None:
        while not ended.wait(poll_s):
            faulthandler.dump_traceback_later(longest + 60.0, exit=True, file=2)
            for sign in watch.silent():
                log(f"no sign of life: {sign}; ended. What was saved is intact, start again to go on")
                os._exit(1)

    thread = threading.Thread(target=look, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(poll_s + 5.0)
        faulthandler.cancel_dump_traceback_later()
