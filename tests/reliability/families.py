"""Process trees that a test starts, watches and kills, whatever their members do to their parents and groups."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Set

#: In the environment of every member. Ranks inherit what starts with STDC_.
MARK = "STDC_TEST_FAMILY"

#: No process of ours may live longer than this after its head was killed.
GRACE_S = 5.0


class Member(NamedTuple):
    """One process of a family."""

    pid: int
    parent: int
    command: List[str]

    @property
    def role(self) -> str:
        """What it is for, from its command line."""
        text = " ".join(self.command)
        if "paddle.distributed.launch" in text:
            return "launcher"
        if "resource_tracker" in text:
            return "resource tracker"
        if "multiprocessing" in text:
            return "data worker"
        for word in self.command:
            if word.endswith(".py") and "/scripts/" in word:
                return Path(word).stem
        return "snakemake" if "snakemake" in text else "other"


class Family:
    """A program and everything that descends from it, in a session of its own.

    Args:
        command: program and arguments.
        folder: working directory.
        log: where stdout and stderr go.
        environment: added to this process's.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, environment: Optional[Mapping[str, str]] = None
    ) -> None:
        self.token = uuid.uuid4().hex
        self.log = log
        self._seen: Set[int] = set()
        with log.open("ab") as handle:
            self.head = subprocess.Popen(
                list(map(str, command)),
                cwd=folder,
                env={**os.environ, **(environment or {}), MARK: self.token},
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._seen.add(self.head.pid)

    def members(self) -> List[Member]:
        """Living processes of the family, zombies left out.

        Ranks do not inherit the mark: their environment is made of known names. They name their watcher instead.
        """
        wanted = {f"{MARK}={self.token}".encode(), f"STDC_DIE_WITH_PARENT={self.head.pid}".encode()}
        wanted |= {f"STDC_RANK_WATCHER={pid}".encode() for pid in self._seen}
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if not wanted & set((entry / "environ").read_bytes().split(b"\0")):
                    continue
                state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                if state not in "ZX":
                    found.append(Member(int(entry.name), int(parent), [word for word in words if word]))
        self._seen.update(member.pid for member in found)
        return found

    def of_role(self, role: str) -> List[Member]:
        return [member for member in self.members() if member.role == role]

    def kill(self, pid: int, number: int = signal.SIGKILL) -> bool:
        """Send a signal to one member; False where it has ended already."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill_group(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the head's process group, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.head.pid, number)

    def wait(self, limit_s: float) -> int:
        """Wait for the head; its exit code, negative for a signal."""
        return self.head.wait(limit_s)

    def survivors(self, limit_s: float = GRACE_S) -> List[Member]:
        """Who is still alive `limit_s` seconds after the head ended; returns early when nobody is."""
        deadline = time.monotonic() + limit_s
        while True:
            left = self.members()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)

    def end(self) -> None:
        """Kill whoever is left. For the end of a test, whatever happened in it."""
        for _ in range(5):
            for member in self.members():
                self.kill(member.pid)
            if self.head.poll() is not None and not self.members():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.head.wait(0.2)

    def text(self) -> str:
        """What the family has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def wait_until(condition: Callable[[], object], limit_s: float, what: str = "") -> None:
    """Poll until `condition` holds; a test that waits for ever tells nothing.

    Raises:
        TimeoutError: it did not within `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit_s:.0f} s: {what}")
        time.sleep(0.02)


def shared_memory() -> List[str]:
    """Names in shared memory; those of a run carry the name of its folder."""
    return [path.name for path in Path("/dev/shm").iterdir()]
