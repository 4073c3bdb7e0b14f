"""Ranks: the processes of one run, one per device.

One device: the trainer runs in the program's own process. More: this process becomes the watcher of
``paddle.distributed.launch``, which starts one rank per device. The watcher turns a signal into a request file that all
ranks see at the same step, passes rank 0's messages on, notices a rank that gives no sign of life, and reports the rank
that failed first. No rank outlives it.

What passes between the processes lies in one folder: `stop`, `rank<r>.json` (an error), `messages.<r>` (lines for the
user), `heartbeat.<r>`, `meet/` (who has arrived where), `logs/` (all that launcher and ranks print).
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
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from stdc import files
from stdc.errors import InputError, RunError, StdcError, StoppedError
from stdc.machine import environment
from stdc.machine.heartbeat import PRESENT, Heartbeat, Limits, Sign, Watch
from stdc.machine.lifetime import die_with_parent
from stdc.machine.nodes import ONE_NODE, Nodes

_WATCHER = "STDC_RANK_WATCHER"
_FOLDER = "STDC_RANK_FOLDER"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
#: Ranks get this long to reach the end of their step and save.
_STOP_GRACE_S = 300.0
_POLL_S = 0.2
#: Ranks that fail of one cause fail within this time of each other.
_FAILURE_SPREAD_S = 15.0

Log = Callable[[str], None]


class StopRequest:
    """Whether a signal asked this process to save and end. Use as a context manager in the main thread."""

    def __init__(self) -> None:
        self.name: Optional[str] = None
        self._previous: Dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in _STOP_SIGNALS:
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
    """Whether this process is a rank started by `run_ranks`."""
    return _WATCHER in os.environ and "PADDLE_TRAINER_ID" in os.environ


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


# ---- in a rank


def enter_rank() -> None:
    """First call of a rank, before paddle is imported: end with the launcher, whatever ends it."""
    die_with_parent()


def tell(line: str) -> None:
    """In a rank: a line for the user, which the watcher passes on."""
    with (_folder() / f"messages.{rank_and_world()[0]}").open("a", encoding="utf-8") as handle:
        handle.write(line + "\n")


def heartbeat() -> Heartbeat:
    """In a rank: the heartbeat that the watcher looks at."""
    return Heartbeat(_heartbeat_file(_folder(), rank_and_world()[0]))


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


# ---- in the watcher


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
    with StopRequest() as stop:
        presence = _gather(folder, nodes, limits)
        try:
            _run_launcher(argv, device, world_size, folder, limits, log, nodes, stop, presence)
        finally:
            presence.close()


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


def _run_launcher(
    argv: List[str],
    device: str,
    world_size: int,
    folder: Path,
    limits: Limits,
    log: Log,
    nodes: Nodes,
    stop: StopRequest,
    presence: Heartbeat,
) -> None:
    logs = _logs(folder, nodes.number)
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(world_size // nodes.count)]
    if nodes.count > 1:
        command += ["--nnodes", str(nodes.count), "--rank", str(nodes.number), "--master", nodes.master]
    command += ["--log_dir", str(logs), *argv]
    with (logs / "launcher.log").open("wb") as output:
        launcher = subprocess.Popen(
            command,
            env=_rank_environment(device, folder, nodes.count),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Signals to our process group must not kill ranks in the middle of a step.
            start_new_session=True,
            preexec_fn=_start_launcher,
        )
        watcher = _Watcher(launcher, folder, world_size, limits, log, nodes, presence)
        try:
            code = watcher.run(stop)
        finally:
            # Whatever ended the watching: no rank outlives it.
            _end_group(launcher)
    if code != 0:
        raise first_error(folder, code, logs)


class _Watcher:
    """Follows launcher and ranks until they end, and the other nodes."""

    def __init__(
        self,
        launcher: subprocess.Popen,
        folder: Path,
        world_size: int,
        limits: Limits,
        log: Log,
        nodes: Nodes,
        presence: Heartbeat,
    ) -> None:
        self.launcher, self.folder, self.log, self.nodes, self.presence = launcher, folder, log, nodes, presence
        names = {f"rank {rank}": _heartbeat_file(folder, rank) for rank in range(world_size)}
        self.watch = Watch(names, limits)
        others = set(range(nodes.count)) - {nodes.number}
        self.neighbors = Watch({f"node {number}": _node_file(folder, number) for number in others}, limits)
        # One node tells the user; each of the others would say the same.
        self.shown = dict.fromkeys(range(world_size if nodes.number == 0 else 0), 0)

    def run(self, stop: StopRequest) -> int:
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
            silent = self.watch.silent() or self.neighbors.silent()
            if silent:
                raise RunError(f"no sign of life from {silent[0]}; ended. {self._signs()} Start again to go on")
            time.sleep(_POLL_S)

    def _signs(self) -> str:
        """What each rank was last seen doing; one that the system has stopped is the likely cause."""
        return "".join(f"{sign}{_state_of(sign)}. " for sign in self.watch.signs()).strip()

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
    if first["exit_code"] == InputError.exit_code:
        return InputError(first["message"])
    return RunError(f"rank {first['rank']} failed: {first['message']} (logs: {logs})")


def _start_launcher() -> None:
    die_with_parent()
    # A scheduler may signal every process of a job, and the launcher would end the ranks in the middle of a step. The
    # watcher alone listens, and asks in a way that all ranks see at the same step. Ranks inherit this.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def _end_group(launcher: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


def _state_of(sign: Sign) -> str:
    """Why a rank or a data worker of it does nothing, where the kernel knows; else nothing."""
    ours = {f"{_WATCHER}={os.getpid()}".encode(), f"PADDLE_TRAINER_ID={sign.name.rpartition(' ')[2]}".encode()}
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


def _folder() -> Path:
    return Path(os.environ[_FOLDER])


def _heartbeat_file(folder: Path, rank: int) -> Path:
    return folder / f"heartbeat.{rank}"


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
    inherited[_WATCHER] = str(os.getpid())
    inherited[_FOLDER] = str(folder.resolve())
    return inherited
