"""One run of Snakemake: its lock, and what it says at its end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Dict, Iterable, List, Mapping, NamedTuple, NoReturn, Optional, Sequence

import plain_files
import work_folders
from terminal import FailedJob

LOCK_FILE = ".stdc.lock"
#: Clocks of a file server and of this machine may differ a little.
CLOCK_TOLERANCE_S = 1.0
#: Bytes that must fit into the folder of temporary files.
TEMPORARY_BYTES = 1 << 20
#: Error numbers with which a file system without locks answers.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_LOG_END_BYTES = 1 << 20
#: What programs leave beside their logs (workflow/scripts/program.py), and their exit codes.
ERROR_SUFFIX = ".error.json"
EXIT_INPUT = 2
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130
#: By these a scheduler, an engine or a person asks for the end.
_STOPS = ("SIGTERM", "SIGINT")
_MORE_MEMORY = (
    "  give it more (docker run --memory, limits.memory of a pod, mem_mb on a cluster), or lower hardware.workers or "
    "hardware.micro_batch; the same command goes on from the last checkpoint"
)


class ProgramError(NamedTuple):
    """What a program that failed left beside its log."""

    program: str
    exit_code: int
    message: str


def python_beside(code: Path) -> str:
    """The interpreter that the set-up made beside the Snakefile, or Snakemake's own where there is none to be seen."""
    beside = code / ".venv" / "train" / "bin" / "python"
    try:
        return str(beside) if beside.exists() else sys.executable
    except OSError:
        # The interpreter lies behind a link, in a folder that this user may not read.
        return sys.executable


def clock_problem(files: Iterable[Path], now: Optional[float] = None) -> Optional[str]:
    """Why Snakemake would throw away what is made: it deletes outputs that are older than the code that made them."""
    limit = (time.time() if now is None else now) + CLOCK_TOLERANCE_S
    ahead = [(file.stat().st_mtime - limit, file) for file in set(files) if file.stat().st_mtime > limit]
    if not ahead:
        return None
    seconds, file = max(ahead)
    return (
        f"{file}: its time lies {seconds + CLOCK_TOLERANCE_S:.0f} s ahead of this machine's clock, as do those of "
        f"{len(ahead) - 1} other files, and Snakemake would delete what is made from them; set the clock, or run "
        f"`touch` on the files"
    )


def temporary_folder_problem() -> Optional[str]:
    """Why Snakemake's plans and the programs' small files have no place; None where they have."""
    # Python passes over a folder that is full; what Snakemake plans with takes TMPDIR at its word.
    where = os.environ.get("TMPDIR") or tempfile.gettempdir()
    problem = work_folders.room_problem(Path(where), TEMPORARY_BYTES)
    if problem is None:
        return None
    return f"{where}: {problem}; make room there, or name another folder by the variable TMPDIR"


def interpreter_problem(python: str) -> Optional[str]:
    """Why the programs cannot run with this interpreter, in one line; None where nothing speaks against it."""
    if shutil.which(python) is None:
        return f"STDC_PYTHON: {python} is not a program; name the Python that has paddle"
    if python == sys.executable and importlib.util.find_spec("paddle") is None:
        return (
            "no Python for the programs: no .venv/train beside the Snakefile, and Snakemake's own has no paddle; "
            "run `make setup`, or name one by the variable STDC_PYTHON"
        )
    return None


def hold_lock(folder: Path) -> Optional[IO[str]]:
    """Take the lock of a working directory; it lasts as long as the returned handle is open.

    The kernel drops it with the process, even after a kill -9, which Snakemake's lock files survive.

    Raises:
        BlockingIOError: another run holds it; the text says which.
        PermissionError: the file cannot be opened: it is another user's, say; the text says why.
    """
    try:
        if (folder / LOCK_FILE).is_fifo() or (folder / LOCK_FILE).is_char_device():
            # Their holder could not be read from them.
            raise plain_files.NotAFileError(errno.EINVAL, "not a file", str(folder / LOCK_FILE))
        handle = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise PermissionError(
            f"{folder / LOCK_FILE}: {error.strerror}; work in a folder of your own, which --directory names"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip()
        handle.close()
        raise BlockingIOError(
            f"{folder}: another run is at work in this directory{f' ({holder})' if holder else ''}; "
            "wait for it, or use another one with --directory"
        ) from None
    except OSError as error:
        handle.close()
        if error.errno not in NO_LOCKS:
            error.filename = str(folder / LOCK_FILE)
            raise
        print(f"{folder}: this file system has no locks; do not start a second run here", file=sys.stderr)
        return None
    with contextlib.suppress(OSError):
        # On a full disk nobody learns who holds it; it is held all the same.
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        handle.flush()
    return handle


def cores_to_use(asked: int, usable: int, mask: int) -> int:
    """How many cores a run takes: `--cores all` counts the affinity mask, and not the quota of a container.

    Args:
        asked: for; where it is the whole mask, `all` is meant.
        usable: what the quota leaves.
        mask: CPUs of the affinity mask.
    """
    return usable if asked == mask and usable < mask else asked


def be_patient() -> None:
    """Take Ctrl-C once. Later ones are answered: Snakemake would end in frames of its own while programs still save."""

    def interrupt(*_: object) -> NoReturn:
        signal.signal(signal.SIGINT, answer)
        raise KeyboardInterrupt

    def answer(*_: object) -> None:
        print("stdc: stopping; a training saves its state first", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, interrupt)


def is_free(folder: Path) -> bool:
    """Whether no other run is at work in a working directory; never waits, and leaves no lock."""
    try:
        # Where a pipe stands there, opening it would wait for its writer.
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    finally:
        os.close(descriptor)
    return True


def stale_files(texts: Mapping[str, str]) -> List[Path]:
    """Files that exist and do not hold the text that they should, with the newline that ends it.

    Raises:
        OSError: what stands there is no file, or cannot be read now.
    """
    stale = []
    for name, text in texts.items():
        wanted = f"{text}\n".encode()
        with contextlib.suppress(FileNotFoundError):
            if plain_files.read_bytes(Path(name), len(wanted) + 1) != wanted:
                stale.append(Path(name))
    return stale


def replace_text(path: Path, text: str) -> None:
    """Write a file that is either the old one or the new one."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def forget_errors(logs: Path) -> None:
    """Remove what programs of earlier runs left, so that each error found later is of this run."""
    for path in logs.glob(f"*/*{ERROR_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def ending(log: str) -> str:
    """How the program that writes this log ended, in a word."""
    error = errors(Path(log).parent.parent).get(log) if log else None
    return "stopped" if error is not None and error.exit_code in (EXIT_STOPPED, EXIT_INTERRUPTED) else "failed"


def errors(logs: Path) -> Dict[str, ProgramError]:
    """The errors that programs left in this run, by the path of their log."""
    found = {}
    for path in sorted(logs.glob(f"*/*{ERROR_SUFFIX}")):
        try:
            content = json.loads(plain_files.read_text(path))
            error = ProgramError(str(content["program"]), int(content["exit_code"]), str(content["message"]))
        except (OSError, ValueError, KeyError, TypeError):
            # The program was killed while it wrote this file; its log has the words.
            continue
        found[str(path)[: -len(ERROR_SUFFIX)]] = error
    return found


def explain(
    jobs: Sequence[FailedJob], left: Mapping[str, ProgramError], here: bool, memory: Optional[str] = None
) -> List[str]:
    """What failed and what to do about it, where the user looks first: at the end.

    Args:
        jobs: the jobs that Snakemake calls failed.
        left: what programs left, by log; also those that Snakemake stopped before they failed by themselves.
        here: the programs wrote their messages to this terminal, so one line for each is enough.
        memory: what is known of killings for want of memory during this run (`memory_words`); None: nothing.
    """
    lines = []
    told = {job.log for job in jobs}
    stopped = [FailedJob(error.program, error.program, log) for log, error in left.items() if log not in told]
    for job in [*jobs, *stopped]:
        error = left.get(job.log)
        if error is None:
            if job.signal in _STOPS:
                lines.append(f"{job.label} was stopped; the same command starts it again")
                continue
            how = f"was killed by {job.signal}" if job.signal else "failed"
            hint = f", {memory or 'which is often for want of memory'}" if job.signal == "SIGKILL" else ""
            lines.append(f"{job.label} {how}{hint}; see {job.log}" if job.log else f"{job.label} {how}{hint}")
            lines += [_MORE_MEMORY] if hint else []
            lines += [f"  {line}" for line in job.message.split("For further")[0].splitlines()]
            lines += [f"  {line}" for line in last_words(Path(job.log))] if job.log else []
        elif error.exit_code == EXIT_STOPPED:
            lines.append(f"{job.label}: {error.message}")
        elif error.exit_code == EXIT_INTERRUPTED:
            lines.append(f"{job.label} was interrupted; the same command starts it again")
        else:
            first, *more = error.message.splitlines() or [""]
            where = f"told above and in {job.log}" if more and here else f"see {job.log}"
            lines.append(f"{job.label} failed: {first}; {where}")
            lines += [] if here else [f"  {line.strip()}" for line in more]
    return lines


def exit_code(jobs: Sequence[FailedJob], left: Mapping[str, ProgramError]) -> int:
    """2 where every program that failed found the input wrong, 75 where all stopped on request and saved, else 1."""
    codes = {_exit_code(job, left.get(job.log)) for job in jobs} or {error.exit_code for error in left.values()}
    return codes.pop() if codes in ({EXIT_INPUT}, {EXIT_STOPPED}) else 1


def _exit_code(job: FailedJob, error: Optional[ProgramError]) -> int:
    if error is not None:
        return EXIT_STOPPED if error.exit_code == EXIT_INTERRUPTED and job.signal in _STOPS else error.exit_code
    # A stage that has nothing to save ends by the signal itself.
    return EXIT_STOPPED if job.signal in _STOPS else 1


def memory_words(kills: int, limit: Optional[int]) -> Optional[str]:
    """What the kernel did for want of memory, as the end of a sentence; None where it did nothing.

    Args:
        kills: processes that it killed in this control group during the run.
        limit: bytes that the control group may hold.
    """
    if kills <= 0:
        return None
    return "by the kernel for want of memory" + (f" (the limit is {limit / 1e9:.1f} GB)" if limit else "")


def closing_lines(results: Path) -> List[str]:
    """The verdict and the page of a finished run; nothing where there is none."""
    try:
        verdict = json.loads(plain_files.read_text(results / "verdict.json"))
        lines = [f"{verdict['verdict']}: {verdict['summary']}"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [*lines, f"report: {results / 'report.html'}"]


def sweep_lines(results: Path) -> List[str]:
    """The table and the page of a finished sweep; nothing where there is none."""
    try:
        summary = json.loads(plain_files.read_text(results / "summary.json"))
        lines = [str(line) for line in summary["lines"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [*lines, f"page: {results / 'summary.html'}"]


def last_words(log: Path, lines: int = 12) -> List[str]:
    """The end of a program's log, without empty lines."""
    try:
        text = plain_files.read_bytes(log, _LOG_END_BYTES, from_end=True).decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def job_environment(code: Path) -> Dict[str, str]:
    """Variables that programs started by this process get, beside those it has.

    STDC_DIE_WITH_PARENT: a program must not train on when Snakemake was killed, not even one that is just starting; the
    value is the process to live as long as. 0 switches it off.
    """
    made = {name: value for name, value in commit_of(code).items() if name not in os.environ}
    if os.environ.get("STDC_DIE_WITH_PARENT") != "0":
        made["STDC_DIE_WITH_PARENT"] = str(os.getpid())
    return made


def commit_of(code: Path) -> Dict[str, str]:
    """What provenance needs to know of the checkout, as environment variables; nothing where it is not one."""
    git = ["git", "-c", f"safe.directory={code}", "-C", str(code)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20, check=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"STDC_COMMIT": head.stdout.strip(), "STDC_COMMIT_DIRTY": "1" if changes.stdout.strip() else "0"}
