"""The watcher of several ranks: starts ``paddle.distributed.launch``, which starts one rank per device.

It turns a signal into a request file that all ranks see at the same step, passes their messages on, ends the run when a
rank or a node gives no sign of life, and reports the rank that failed first. No rank outlives it. On several nodes
there is one watcher on each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

from stdc import files
from stdc.errors import InputError, OutOfMemoryError, RunError, StdcError, StoppedError, UnusableKernelError
from stdc.machine import environment
from stdc.machine.heartbeat import PRESENT, Heartbeat, Limits, Sign, Watch
from stdc.machine.lifetime import die_with_parent
from stdc.machine.nodes import ONE_NODE, Nodes, find_route
from stdc.machine.ranks import FOLDER_VARIABLE, STOP_SIGNALS, WATCHER_VARIABLE, StopRequest, heartbeat_file
from stdc.progress import Log

#: Ranks get this long to reach the end of their step and save: less than docker/compose.yaml waits before it kills.
_STOP_GRACE_S = 240.0
_POLL_S = 0.2
#: Ranks that fail for the same reason do so within this time of each other.
_FAILURE_SPREAD_S = 15.0


def run_ranks(
    argv: List[str],
    *,
    device: str,
    world_size: int,
    folder: Path,
    limits: Limits,
    log: Log,
    nodes: Nodes = ONE_NODE,
) -> None:
    """Run `python argv…` once per rank and wait. On several nodes, each node's call runs its share of the ranks.

    Args:
        argv: program and arguments; each rank runs the same.
        device: kind of device.
        world_size: number of ranks on all nodes.
        folder: for logs and messages between the processes; emptied first, by node 0.
        limits: how long a rank may give no sign of life.
        log: receives the ranks' lines for the user.
        nodes: the machines that the ranks are on.
    Raises:
        InputError: a rank found the user's input wrong.
        StoppedError: the ranks saved and ended on request.
        RunError: a rank failed or gave no sign of life; the message names the first one and quotes it.
    """
    run = _Run(argv, device, world_size, folder, limits, log, nodes)
    with StopRequest() as stop:
        presence = _gather(folder, nodes, limits)
        try:
            _launch(run, stop, presence)
        finally:
            presence.close()


class _Run(NamedTuple):
    """What `run_ranks` was asked for."""

    argv: List[str]
    device: str
    world_size: int
    folder: Path
    limits: Limits
    log: Log
    nodes: Nodes


def _gather(folder: Path, nodes: Nodes, limits: Limits) -> Heartbeat:
    """Prepare the folder, on node 0, and wait until every node has come.

    Returns:
        The heartbeat of this node.
    Raises:
        RunError: a node has not come in time; names it.
    """
    start = folder / "start"
    if nodes.number == 0:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "meet").mkdir(parents=True)
        for number in range(nodes.count):
            _logs(folder, number).mkdir(parents=True)
        files.write_text(start, nodes.launch)
    else:
        _wait_for(lambda: _read_or_empty(start) == nodes.launch, limits.rendezvous_s, "node 0")
    presence = Heartbeat(_node_file(folder, nodes.number))
    presence.beat(PRESENT, 0)
    for number in range(nodes.count):
        _wait_for(_node_file(folder, number).exists, limits.rendezvous_s, f"node {number}")
    return presence


def _launch(run: _Run, stop: StopRequest, presence: Heartbeat) -> None:
    """Start the launcher of this node, and watch it until it ends."""
    folder, nodes = run.folder, run.nodes
    logs = _logs(folder, nodes.number)
    share = run.world_size // nodes.count
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(share)]
    inherited = _rank_environment(run.device, folder, nodes.count)
    if nodes.count > 1:
        command += ["--nnodes", str(nodes.count), "--rank", str(nodes.number), "--master", nodes.master]
        route = find_route(nodes.master, os.environ)
        if route is not None:
            command += ["--host", route.address]
            inherited.setdefault("GLOO_SOCKET_IFNAME", route.interface)
    command += ["--log_dir", str(logs), *run.argv]
    with (logs / "launcher.log").open("wb") as output:
        launcher = subprocess.Popen(
            command,
            env=inherited,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Signals to our process group must not kill ranks in the middle of a step.
            start_new_session=True,
            preexec_fn=_start_launcher,
        )
        watcher = _Watcher(launcher, run, presence)
        try:
            code = watcher.watch(stop)
        finally:
            # Whatever ends the watching, no rank may outlive it.
            _end_group(launcher)
    if code != 0:
        raise first_error(folder, code, logs)


class _Watcher:
    """Follows launcher and ranks until they end, and the other nodes."""

    def __init__(self, launcher: subprocess.Popen, run: _Run, presence: Heartbeat) -> None:
        self.launcher, self.folder, self.log, self.presence = launcher, run.folder, run.log, presence
        self.nodes = run.nodes
        names = {f"rank {rank}": heartbeat_file(run.folder, rank) for rank in range(run.world_size)}
        self.ranks = Watch(names, run.limits)
        others = set(range(run.nodes.count)) - {run.nodes.number}
        self.neighbors = Watch({f"node {number}": _node_file(run.folder, number) for number in others}, run.limits)
        # One node tells the user; each of the others would say the same.
        self.shown = dict.fromkeys(range(run.world_size if run.nodes.number == 0 else 0), 0)

    def watch(self, stop: StopRequest) -> int:
        """The launcher's exit code.

        Raises:
            RunError: a rank gave no sign of life.
        """
        deadline = failed = None
        while True:
            self.presence.beat(PRESENT, 0)
            code = self.launcher.poll()
            self._pass_on_messages()
            if code is not None:
                return code
            if stop.name and deadline is None:
                self.log(f"{stop.name}: saving and ending")
                files.write_text(self.folder / "stop", stop.name + "\n")
                deadline = time.monotonic() + _STOP_GRACE_S
            if deadline is not None and time.monotonic() > deadline:
                raise RunError(
                    f"the ranks did not end within {_STOP_GRACE_S:.0f} s of {stop.name}; ended. {self._signs()}"
                )
            if failed is None and self.nodes.count > 1 and any(self.folder.glob("rank*.json")):
                failed = time.monotonic()
            if failed is not None and deadline is None and time.monotonic() - failed > _FAILURE_SPREAD_S:
                # A rank of another node has failed, and those here wait for it.
                return self.launcher.poll() or 1
            silent = self.ranks.silent() or self.neighbors.silent()
            if silent:
                raise RunError(f"no sign of life from {silent[0]}; ended. {self._signs()} Start again to go on")
            time.sleep(_POLL_S)

    def _signs(self) -> str:
        """What each rank was last seen doing; one that the system has stopped is the likely cause."""
        return "".join(f"{sign}{_state_of(sign)}. " for sign in self.ranks.signs()).strip()

    def _pass_on_messages(self) -> None:
        for rank, shown in self.shown.items():
            with contextlib.suppress(FileNotFoundError), (self.folder / f"messages.{rank}").open("rb") as handle:
                handle.seek(shown)
                text = handle.read()
                complete = text.rfind(b"\n") + 1
                self.shown[rank] = shown + complete
                for line in text[:complete].decode("utf-8", "replace").splitlines():
                    self.log(line)


def first_error(folder: Path, code: int, logs: Path) -> StdcError:
    """What the rank that failed first reported; ranks that stopped on request count only if all did."""
    reports = []
    for path in folder.glob("rank*.json"):
        with contextlib.suppress(InputError):
            reports.append(files.read_json(path))
    reports.sort(key=lambda report: report["time"])
    failed = [report for report in reports if report["exit_code"] != StoppedError.exit_code]
    if reports and not failed:
        return StoppedError(reports[0]["message"])
    if not failed:
        last = _last_line(logs / "launcher.log")
        return RunError(
            f"a rank died without a word (launcher's exit code {code}{f': {last}' if last else ''}); logs: {logs}"
        )
    first = failed[0]
    for kind in (OutOfMemoryError, UnusableKernelError):
        if first.get("kind") == kind.__name__:
            return kind(first["message"])
    if first["exit_code"] == InputError.exit_code:
        return InputError(first["message"])
    return RunError(f"rank {first['rank']} failed: {first['message']} (logs: {logs})")


def _start_launcher() -> None:
    die_with_parent()
    # A scheduler may signal every process of a job, and the launcher would end the ranks in the middle of a step. The
    # watcher alone listens, and asks in a way that all ranks see at the same step. Ranks inherit this.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _end_group(launcher: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


def _state_of(sign: Sign) -> str:
    """Why a rank or a data worker of it does nothing, where the kernel knows; else nothing."""
    ours = {f"{WATCHER_VARIABLE}={os.getpid()}".encode(), f"PADDLE_TRAINER_ID={sign.name.rpartition(' ')[2]}".encode()}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if not ours <= set((folder / "environ").read_bytes().split(b"\0")):
                continue
            state = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][0]
            if state in ("T", "t"):
                return f" (process {folder.name} is stopped by a signal)"
            if state == "D":
                return f" (process {folder.name} waits for a disk or a device)"
    return ""


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")[:200]
    return ""


def _node_file(folder: Path, number: int) -> Path:
    return folder / f"node.{number}"


def _logs(folder: Path, node: int) -> Path:
    return folder / "logs" / (f"node{node}" if node else "")


def _read_or_empty(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""


def _wait_for(arrived: Callable[[], bool], limit_s: float, who: str) -> None:
    deadline = time.monotonic() + limit_s
    while not arrived():
        if time.monotonic() > deadline:
            raise RunError(
                f"{who} has not come within {limit_s:.0f} s; do all nodes run, and do they see the same folder? "
                "(hardware.rendezvous_limit_s)"
            )
        time.sleep(_POLL_S)


def _rank_environment(device: str, folder: Path, nodes: int) -> Dict[str, str]:
    inherited = environment.of_ranks(os.environ, device, nodes)
    inherited[WATCHER_VARIABLE] = str(os.getpid())
    inherited[FOLDER_VARIABLE] = str(folder.resolve())
    return inherited
