"""What every run is doing: state, iteration, time to go, loss, mIoU, speed, last sign of life, disk."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.results.run_status import as_document, read_runs
from stdc.results.status_table import as_table

#: Clears the terminal and goes to its upper left corner.
_CLEAR = "\033[2J\033[H"


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("status", __doc__ or "", "--watch")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="folder of run folders")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="folder of results")
    parser.add_argument("--watch", action="store_true", help="show it anew every --interval seconds, until Ctrl-C")
    parser.add_argument("--interval", type=program.count, default=5, metavar="SECONDS", help="between two looks")
    parser.add_argument("--json", action="store_true", help="for programs: JSON on stdout")
    return parser


def main(options: argparse.Namespace) -> None:
    while True:
        now = time.time()
        runs = read_runs(options.runs, options.results, now)
        if options.json:
            text = json.dumps(as_document(runs, now), indent=1)
        else:
            text = as_table(runs, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
        print(f"{_CLEAR if options.watch and sys.stdout.isatty() else ''}{text}", flush=True)
        if not options.watch:
            return
        time.sleep(options.interval)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
