"""Starting ranks and asking tools: the only place, besides pools of data workers, that starts processes.

One device: the trainer runs in the program's own process. More: this process becomes the watcher of
``paddle.distributed.launch``, which starts one rank a device. The watcher turns a signal into a request file that all
ranks see at the same step, reports the first rank that failed, and no rank outlives it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from stdc import files
from stdc.errors import InputError, RunError, StdcError, StoppedError
from stdc.machine import environment
from stdc.machine.lifetime import die_with_parent

_WATCHER = "STDC_RANK_WATCHER"
_FOLDER = "STDC_RANK_FOLDER"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
#: Ranks get this long to reach the end of their step and save.
_STOP_GRACE_S = 300.0


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


def enter_rank() -> None:
    """First call of a rank, before paddle is imported: end with the launcher, whatever ends it."""
    die_with_parent()


def stop_requested() -> bool:
    """In a rank: whether the watcher asked to save and end."""
    return (Path(os.environ[_FOLDER]) / "stop").exists()


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
            Path(os.environ[_FOLDER]) / f"rank{rank}.json",
            {"rank": rank, "exit_code": code, "message": message, "time": time.time()},
        )
        raise


def run_ranks(argv: List[str], device: str, ranks: int, folder: Path, say: Callable[[str], None]) -> None:
    """Run `python argv…` once a rank and wait.

    Args:
        argv: program and arguments; each rank runs the same.
        ranks: how many.
        folder: for logs and messages between the processes; emptied first.
        say: receives rank 0's lines.
    Raises:
        InputError: a rank found the user's input wrong.
        StoppedError: the ranks saved and ended on request.
        RunError: a rank failed; the message names the first one and quotes it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(ranks)]
    command += ["--log_dir", str(folder / "logs"), *argv]
    with StopRequest() as stop:
        launcher = subprocess.Popen(
            command,
            env=_rank_environment(device, folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Signals to our process group must not kill ranks in the middle of a step.
            start_new_session=True,
            preexec_fn=_start_launcher,
        )
        code = _watch(launcher, stop, folder, say)
    if code != 0:
        raise first_error(folder, code)


def _start_launcher() -> None:
    die_with_parent()
    # A scheduler may signal every process of a job, and the launcher would end the ranks in the middle of a step. The
    # watcher alone listens, and asks in a way that all ranks see at the same step. Ranks inherit this.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def _watch(launcher: subprocess.Popen, stop: StopRequest, folder: Path, say: Callable[[str], None]) -> int:
    """Pass on rank 0's messages and a signal's request until the launcher ends; its exit code."""
    shown = 0
    deadline = None
    while True:
        code = launcher.poll()
        shown = _pass_on(folder / "logs" / "workerlog.0", shown, say)
        if code is not None:
            return code
        if stop.name and deadline is None:
            say(f"{stop.name}: saving and ending")
            files.write_text(folder / "stop", stop.name + "\n")
            deadline = time.monotonic() + _STOP_GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            launcher.kill()
        time.sleep(0.2)


def _pass_on(log: Path, shown: int, say: Callable[[str], None]) -> int:
    """Say the complete lines of `log` after byte `shown`; the new position."""
    try:
        with log.open("rb") as handle:
            handle.seek(shown)
            text = handle.read()
    except FileNotFoundError:
        return shown
    complete = text.rfind(b"\n") + 1
    for line in text[:complete].decode("utf-8", "replace").splitlines():
        # The launcher's and paddle's own notices are in the log for those who look.
        if line.startswith(("train:", "evaluate:")) or "Error" in line:
            say(line)
    return shown + complete


def first_error(folder: Path, code: int) -> StdcError:
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
        return RunError(f"a rank died without a word (launcher's exit code {code}); logs: {folder / 'logs'}")
    first = failed[0]
    if first["exit_code"] == InputError.exit_code:
        return InputError(first["message"])
    return RunError(f"rank {first['rank']} failed: {first['message']} (logs: {folder / 'logs'})")


def _rank_environment(device: str, folder: Path) -> Dict[str, str]:
    inherited = environment.of_ranks(os.environ, device)
    inherited[_WATCHER] = str(os.getpid())
    inherited[_FOLDER] = str(folder.resolve())
    return inherited


class Answer(NamedTuple):
    """What a command said. `code` is None where it did not end in time, 127 where there is no such command."""

    code: Optional[int]
    output: str


def ask(command: Sequence[str], limit_s: float, environment: Optional[Mapping[str, str]] = None) -> Answer:
    """Run a short command and collect what it prints; nothing that it started outlives the limit.

    Args:
        command: program and arguments.
        limit_s: seconds after which it is killed with its process group.
        environment: variables to add to this process's own.
    """
    with tempfile.TemporaryFile() as output:
        # A file, not a pipe: a grandchild that lives on would keep a pipe open, and this process waiting.
        try:
            process = subprocess.Popen(
                list(command),
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            return Answer(127, f"{command[0]}: {error.strerror}")
        code: Optional[int] = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(limit_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        return Answer(code, output.read().decode("utf-8", "replace"))
