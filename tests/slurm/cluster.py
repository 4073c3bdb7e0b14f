"""A SLURM cluster for tests, made by up.sh: two nodes on this machine, in namespaces of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set

import pytest

UP = Path(__file__).with_name("up.sh")
#: Longest time until both nodes are idle; 2 s on an idle machine.
START_LIMIT_S = 60.0


class QueuedJob(NamedTuple):
    """A job as squeue tells it.

    Attributes:
        number: SLURM's.
        state: such as "RUNNING".
        stage: what the Snakemake plug-in calls it, such as "rule_train_wildcards_0".
        nodes: where it runs; empty while it waits.
    """

    number: int
    state: str
    stage: str
    nodes: str


class Cluster:
    """A running cluster.

    Args:
        folder: for keys, logs and states.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ready = folder / "ready"
        hold = f"touch {ready} && exec sleep 3600"
        with (folder / "up.log").open("wb") as log:
            self._up = subprocess.Popen(
                [str(UP), str(folder / "cluster"), "sh", "-c", hold],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while not ready.exists():
            if self._up.poll() is not None or time.monotonic() > deadline:
                self.end()
                pytest.fail(f"the cluster did not start: {(folder / 'up.log').read_text(errors='replace')}")
            time.sleep(0.1)
        children = Path(f"/proc/{self._up.pid}/task/{self._up.pid}/children").read_text().split()
        self._first = int(children[0])

    def inside(self, *command: object) -> List[str]:
        """A command line that runs `command` as a login node of the cluster would."""
        spaces = ["--mount", "--net", "--uts", "--ipc", "--pid"]
        return ["nsenter", f"--target={self._first}", *spaces, "--", *map(str, command)]

    def ask(self, *command: object, limit_s: float = 30.0) -> str:
        """What a command of SLURM's prints."""
        return subprocess.run(
            self.inside(*command), capture_output=True, text=True, timeout=limit_s, check=True, stdin=subprocess.DEVNULL
        ).stdout

    def jobs(self) -> List[QueuedJob]:
        """All jobs that the cluster remembers, the oldest first."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--sort=i", "--format=%i|%T|%k|%N").splitlines()
        jobs = [line.split("|") for line in lines]
        return [QueuedJob(int(number), state, stage, nodes) for number, state, stage, nodes in jobs]

    def running(self, stage: str) -> Optional[QueuedJob]:
        """The running job of a stage, if there is one."""
        found = [job for job in self.jobs() if job.state == "RUNNING" and job.stage.startswith(f"rule_{stage}")]
        return found[-1] if found else None

    def state(self, number: int) -> str:
        return next(job.state for job in self.jobs() if job.number == number)

    def where(self, number: int) -> str:
        """The nodes of a job."""
        return next(job.nodes for job in self.jobs() if job.number == number)

    def kill_node(self, name: str) -> None:
        """Take a node away as a power failure does, with all that runs on it, and let the controller know."""
        doomed = _on_node(name, _space_of(self._first))
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.ask("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")

    def revive_node(self, name: str) -> None:
        """Switch a killed node on again; it comes back into service when its daemon registers (ReturnToService)."""
        self.ask("slurmd", "-N", name)
        deadline = time.monotonic() + START_LIMIT_S
        while self.ask("sinfo", "--noheader", f"--nodes={name}", "--partition=main", "--format=%T").strip() != "idle":
            assert time.monotonic() < deadline, self.ask("sinfo", "--long", "--Node")
            time.sleep(0.2)

    def end(self) -> None:
        """Kill the first process of the namespace; the kernel ends the others."""
        with contextlib.suppress(ProcessLookupError):
            self._up.kill()
        self._up.wait()


def _space_of(pid: int) -> str:
    """The namespace of a process's number; another cluster may run beside this one."""
    return os.readlink(f"/proc/{pid}/ns/pid")


def _on_node(name: str, space: str) -> Set[int]:
    """Processes of a node: its daemon, its tasks, and the managers of steps, which the tasks descend from."""
    parents: Dict[int, int] = {}
    commands: Dict[int, str] = {}
    tasks: Set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            if _space_of(pid) != space:
                continue
            commands[pid] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            parents[pid] = int((folder / "stat").read_text(errors="replace").rpartition(") ")[2].split()[1])
            if f"SLURMD_NODENAME={name}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                tasks.add(pid)
    doomed = tasks | {pid for pid, command in commands.items() if command.endswith(f"slurmd -N {name}")}
    for task in tasks:
        parent = parents.get(task, 0)
        while parent and "slurmstepd" not in commands.get(parent, ""):
            parent = parents.get(parent, 0)
        doomed |= {parent} if parent else set()
    return doomed


def why_not() -> str:
    """What this machine lacks for a cluster; empty where it lacks nothing."""
    missing = [tool for tool in ("munged", "slurmctld", "slurmd", "unshare", "nsenter", "ip") if not shutil.which(tool)]
    if missing:
        return f"{', '.join(missing)}: not found; apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "root is needed for namespaces and munge"
    namespaces = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(namespaces, capture_output=True, timeout=30, check=False).returncode != 0:
        return "this machine does not let root make namespaces (a container without CAP_SYS_ADMIN?)"
    return ""
