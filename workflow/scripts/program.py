"""What the programs beside this file share: argument parsing, the log, and the exit codes.

Exit codes: 0 done; 2 the user's input is wrong (the message on stderr, no traceback); 1 a fault of ours (traceback);
75 stopped on request after saving, run again to go on (EX_TEMPFAIL); 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import Callable, List, Optional, TextIO

# The programs run as plain files from any working directory, with `stdc` beside `workflow/`, not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stdc.errors import StdcError
from stdc.machine.lifetime import die_with_parent, is_alive

EXIT_FAULT = 1
#: 128 + SIGINT, as shells count.
EXIT_INTERRUPTED = 130


class Tee:
    """A text stream that writes to a log file too."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream = stream
        self.log = log

    def write(self, text: str) -> int:
        # What rewrites the terminal's line (stdc/progress.py) is of no use in a file.
        if not text.startswith("\r"):
            self.log.write(text)
            self.log.flush()
        return self.stream.write(text)

    def flush(self) -> None:
        self.log.flush()
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser with the options every program has."""
    made = argparse.ArgumentParser(
        prog=name, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--log", metavar="FILE", help="also write the messages to this file")
    return made


def run(
    arguments: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], None],
    argv: Optional[List[str]] = None,
) -> int:
    """Parse, call `main`, and turn its outcome into an exit code.

    Use as `sys.exit(program.run(parser, main))`.
    """
    # Snakemake's pid, set by the Snakefile: a job must not outlive a killed Snakemake. By hand, with nohup say, it may.
    guardian = os.environ.get("STDC_DIE_WITH_PARENT", "0")
    if guardian.isdigit() and int(guardian) > 0:
        die_with_parent()
        if not is_alive(int(guardian)):
            # Killed before this process could ask for its end.
            return EXIT_FAULT
    options = arguments.parse_args(argv)
    if options.log:
        path = Path(options.log)
        path.parent.mkdir(parents=True, exist_ok=True)
        sys.stderr = Tee(sys.stderr, path.open("a", encoding="utf-8"))  # type: ignore[assignment]
    try:
        main(options)
    except StdcError as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:
        # A full disk, a missing permission: not the program's fault, and the name of the file says it all.
        where = f"{error.filename}: " if error.filename else ""
        print(f"{arguments.prog}: {where}{error.strerror or error}", file=sys.stderr, flush=True)
        return EXIT_FAULT
    except KeyboardInterrupt:
        print(f"{arguments.prog}: interrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return EXIT_FAULT
    return 0
