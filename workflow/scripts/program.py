"""What all programs share: the parser with its help, the options of devices, the log, and the exit codes.

Every program has one shape:

    def arguments() -> argparse.ArgumentParser: ...   # program.parser(name, what it does, example), and its options
    def main(options: argparse.Namespace) -> None: ...
    if __name__ == "__main__":
        sys.exit(program.run(arguments(), main))

Exit codes: 0 done; 1 a fault (the log has a traceback), or a file that cannot be read or written; 2 the user's input is
wrong (a message, no traceback); 75 stopped on request after saving, run again to go on (EX_TEMPFAIL of sysexits.h); 130
interrupted by Ctrl-C.

A program that fails and was given `--log FILE` leaves `FILE.error.json` beside it: {"program", "exit_code", "message"}.
The workflow reads that, so nobody has to take messages apart.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, List, NoReturn, Optional, TextIO

# The programs run as plain files from any working directory, with `stdc` beside `workflow/`, not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stdc import files
from stdc.errors import InputError, StdcError, shown_lines
from stdc.machine.cgroup import usable_cpus
from stdc.machine.kinds import DEFAULT_KIND, KINDS
from stdc.machine.lifetime import die_with_parent, is_alive

_ROOT = Path(__file__).resolve().parents[2]
EXIT_FAULT = 1
#: 128 + SIGINT, as shells count.
EXIT_INTERRUPTED = 130
ERROR_SUFFIX = ".error.json"

_EXIT_CODES = (
    "exit codes: 0 done; 1 a fault; 2 the input is wrong, a message says how; "
    "75 stopped and saved, run again to go on; 130 interrupted"
)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Shows the default of every option that has one; nothing, an empty text and an empty list are none."""

    def _get_help_string(self, action: argparse.Action) -> Optional[str]:
        text = action.help or ""
        shown = action.option_strings and action.default not in (None, False, "", [], argparse.SUPPRESS)
        return f"{text} (default: %(default)s)" if shown and "default" not in text else text


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are wrong input like any other: one line, exit code 2, also in the log."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for options that it cannot parse."""
        raise InputError(f"{message}; --help lists the options")


class Log:
    """The file of `--log`: a line when the program starts, and what it says, each line with the time."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._at_start_of_line = True

    def write(self, text: str) -> int:
        """Add a text that may be part of a line: the time stands where a line begins, and not before empty ones."""
        for line in text.splitlines(keepends=True):
            if self._at_start_of_line and line.strip():
                self._file.write(time.strftime("%Y-%m-%dT%H:%M:%S%z ", time.localtime(self._clock())))
            self._file.write(line)
            self._at_start_of_line = line.endswith("\n")
        self._file.flush()
        return len(text)

    def flush(self) -> None:
        self._file.flush()


class Tee:
    """A text stream that writes to a log too."""

    def __init__(self, stream: TextIO, log: Log) -> None:
        self.stream = stream
        self.log = log

    def write(self, text: str) -> int:
        # What rewrites the terminal's line (stdc/progress.py) is of no use in a file.
        if not text.startswith("\r"):
            self.log.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.log.flush()
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


def logger(name: str) -> Callable[[str], None]:
    """What a program says while it works: each line on stderr, behind the program's name."""

    def log(line: str) -> None:
        print(f"{name}: {line}", file=sys.stderr, flush=True)

    return log


def parser(name: str, description: str, example: str = "") -> argparse.ArgumentParser:
    """A parser with the options that every program has.

    Args:
        name: of the program's file, without .py.
        description: what it does; the first paragraph of its docstring is a good one.
        example: arguments that show it at work.
    """
    folder = "tools" if (_ROOT / "tools" / f"{name}.py").is_file() else "workflow/scripts"
    shown = f"example: python {folder}/{name}.py {example}".rstrip()
    built = Parser(
        prog=name,
        description=description,
        epilog=f"{shown}\n\n{_EXIT_CODES}",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    built.add_argument("--log", metavar="FILE", help="also write the messages to this file, with times")
    return built


def add_device_options(
    built: argparse.ArgumentParser, *, several: bool = False, device: Optional[str] = DEFAULT_KIND
) -> None:
    """The options of a program that computes with paddle: `--device`, `--threads`, and with `several` `--devices`.

    Args:
        device: the default; None where the program has to tell "not given" from a choice.
    """
    known = device is not None
    built.add_argument("--device", choices=KINDS, default=device, help="what computes")
    if several:
        built.add_argument("--devices", type=count, default=1 if known else None, metavar="N", help="how many of them")
    built.add_argument(
        "--threads",
        type=count,
        default=usable_cpus() if known else None,
        metavar="N",
        help="CPU threads per process",
    )


def add_process_option(built: argparse.ArgumentParser) -> None:
    """The option of a program that shares its work out over processes, which compute with one thread each."""
    built.add_argument("--processes", type=count, default=1, metavar="N", help="worker processes")


def count(text: str) -> int:
    """A number of things of which at least one is needed."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}; at least 1 is needed")
    return number


def run(
    built: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], None],
    argv: Optional[List[str]] = None,
) -> int:
    """Parse, call `main`, and turn its outcome into an exit code.

    Use as `sys.exit(program.run(arguments(), main))`.
    """
    # Snakemake's pid, set by the Snakefile: a job must not outlive a killed Snakemake. By hand, with nohup say, it may.
    guardian = os.environ.get("STDC_DIE_WITH_PARENT", "0")
    if guardian.isdigit() and int(guardian) > 0:
        die_with_parent()
        if not is_alive(int(guardian)):
            # Snakemake was killed before this process could ask to end with it.
            return EXIT_FAULT
    argv = sys.argv[1:] if argv is None else argv
    terminal, path = sys.stderr, _log_of(argv)
    log: Optional[Log] = None
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # An error file left by an earlier start says nothing about this one.
            with contextlib.suppress(FileNotFoundError):
                error_file(path).unlink()
            log = Log(_opened(path))
            log.write(f"{built.prog}: started as process {os.getpid()} on {os.uname().nodename}\n")
            sys.stderr = Tee(terminal, log)  # type: ignore[assignment]
        main(built.parse_args(argv))
    except Exception as error:
        return _failed(built.prog, error, terminal, log, path)
    except KeyboardInterrupt:
        return _told(built.prog, EXIT_INTERRUPTED, "interrupted", terminal, log, path)
    finally:
        sys.stderr = terminal
    return 0


def error_file(log: Path) -> Path:
    """Where a program that writes this log leaves its error."""
    return log.with_name(log.name + ERROR_SUFFIX)


def _failed(name: str, error: Exception, terminal: TextIO, log: Optional[Log], path: Optional[Path]) -> int:
    """Tell an error in the way that its kind asks for; the exit code."""
    if isinstance(error, StdcError):
        error.show(name, terminal, log)  # type: ignore[arg-type]
        return _leave(name, error.exit_code, str(error), path)
    if isinstance(error, OSError):
        # A full disk, a missing permission: not the program's fault, and the name of the file says it all.
        where = f"{error.filename}: " if error.filename else ""
        return _told(name, EXIT_FAULT, f"{where}{error.strerror or error}", terminal, log, path)
    if isinstance(error, ImportError):
        return _told(name, EXIT_FAULT, _missing_module(error), terminal, log, path)
    for stream in (terminal, log):
        if stream is not None:
            traceback.print_exc(file=stream)  # type: ignore[arg-type]
    return _leave(name, EXIT_FAULT, f"a fault of the program, {type(error).__name__}: {error}", path)


def _told(name: str, code: int, message: str, terminal: TextIO, log: Optional[Log], path: Optional[Path]) -> int:
    for stream in (terminal, log):
        if stream is not None:
            print(f"{name}: {shown_lines(message)}", file=stream, flush=True)  # type: ignore[arg-type]
    return _leave(name, code, message, path)


def _leave(name: str, code: int, message: str, log: Optional[Path]) -> int:
    """Write the error beside the log; the exit code is more important than this file."""
    if log is not None:
        try:
            files.write_json(error_file(log), {"program": name, "exit_code": code, "message": shown_lines(message)})
        except (OSError, ValueError) as error:
            print(f"{name}: {error_file(log)}: not written ({error})", file=sys.stderr, flush=True)
    return code


def _missing_module(error: ImportError) -> str:
    return (
        f"the Python of the programs, {sys.executable}, cannot import {error.name or 'a module'} ({error}); run "
        "`make setup`, or name a Python that has the packages of requirements/ by the variable STDC_PYTHON"
        + (" (PYTHONPATH is set: modules of another Python?)" if os.environ.get("PYTHONPATH") else "")
    )


def _log_of(argv: List[str]) -> Optional[Path]:
    """The value of `--log`, known before the arguments are parsed: their mistakes belong in it too."""
    for number, word in enumerate(argv):
        if word == "--log" and number + 1 < len(argv):
            return Path(argv[number + 1])
        if word.startswith("--log="):
            return Path(word.partition("=")[2])
    return None


def _opened(path: Path) -> TextIO:
    """The file of `--log`, at its end. A pipe that nobody reads is an error; opening it would wait for a reader."""
    return open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_at_once)


def _at_once(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _failed_import(kind: Any, error: BaseException, trace: Any) -> None:
    """Tell a module that is missing when a program's own imports run, before it can call `run`."""
    if not isinstance(error, ImportError):
        sys.__excepthook__(kind, error, trace)
        return
    path, log = _log_of(sys.argv[1:]), None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = Log(_opened(path))
    _told(Path(sys.argv[0]).stem, EXIT_FAULT, _missing_module(error), sys.stderr, log, path)


sys.excepthook = _failed_import
