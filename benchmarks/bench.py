"""Speed beside PaddleSeg 2.7, and against what the machine can do: writes benchmarks/RESULTS.md and results.svg.

    make bench                     # installs the peer beside; within 40 minutes on 2 cores
    make bench ARGS=--quick        # 3 minutes: fewer rounds, smaller images for the network; into results/bench/
    make bench ARGS="--frames /data/cityscapes --only loading step"

Each module of this folder named in MODULES measures its rows in a process of its own; both sides of a row run in that
process alternately, on equal draws. The ratio is the median of the peer's figure over ours; above 1 stdc is faster.

The page is written anew with every row, so what was measured stays whatever becomes of the rest. A part that fails or
takes too long is a row that says so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, List

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
sys.path[:0] = [str(REPOSITORY), str(HERE)]

from frames import make_frames  # noqa: E402
from page import Found, picture, results, row_line, summary  # noqa: E402
from rows import Bench, Pair, Row  # noqa: E402

#: In the order of the table, with the seconds that each may take in a full run: three times what an idle machine needs.
MODULES = {
    "limits": 90.0,
    "loading": 240.0,
    "conversion": 120.0,
    "checks": 120.0,
    "step": 600.0,
    "evaluation": 600.0,
    "growth": 900.0,
}
#: Modules that a quick run leaves out.
_LONG = ("growth",)
_QUICK_S = 120.0
#: For all modules together, with a little left to write the page.
_TOTAL_S = {True: 170.0, False: 39 * 60.0}


def main() -> int:
    options = arguments().parse_args()
    if options.module:
        return _measure(options)
    started = time.monotonic()
    names = options.only or [name for name in MODULES if not (options.quick and name in _LONG)]
    whole = not options.quick and not options.only
    output = options.output or (HERE if whole else REPOSITORY / "results" / "bench")
    output.mkdir(parents=True, exist_ok=True)
    command = " ".join(["make bench", *([f'ARGS="{" ".join(sys.argv[1:])}"'] if sys.argv[1:] else [])])
    tried = (HERE / "TRIED.md").read_text(encoding="utf-8")
    found: Dict[str, List[Found]] = {}
    loads = [os.getloadavg()[0]]

    def write() -> None:
        page = results(found, command, time.monotonic() - started, loads, tried)
        (output / "RESULTS.md").write_text(page, encoding="utf-8")
        rows = [row for part in found.values() for row in part if isinstance(row, Row)]
        (output / "results.svg").write_text(picture(rows), encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="stdc-bench-") as scratch:
        options.scratch = Path(scratch)
        if options.frames is None:
            options.frames = options.scratch / "frames"
            make_frames(options.frames, 2 if options.quick else 8)
        for name in names:
            found[name] = []
            left_s = started + _TOTAL_S[options.quick] - time.monotonic()
            for row in _run(name, options, min(_QUICK_S if options.quick else MODULES[name], left_s)):
                found[name].append(row)
                print(row_line(row) if isinstance(row, Row) else row, flush=True)
                write()
            loads.append(os.getloadavg()[0])
        write()
    print(f"\n{summary(found)}\n{output / 'RESULTS.md'}")
    return 0 if all(isinstance(row, Row) and row.met is not False for part in found.values() for row in part) else 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three minutes instead of forty")
    parser.add_argument("--rounds", type=int, help="pairs of runs per row (default: 5, quick: 1)")
    parser.add_argument("--frames", type=Path, metavar="FOLDER", help="Cityscapes-format frames; none: generated ones")
    parser.add_argument("--only", nargs="+", choices=MODULES, help="these modules alone")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for RESULTS.md and results.svg")
    parser.add_argument("--module", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser


def _run(name: str, options: argparse.Namespace, limit_s: float) -> Iterator[Found]:
    """The rows of one module, as they come; a line for what failed."""
    if limit_s <= 0:
        yield f"{name}: not measured: no time left"
        return
    path = options.scratch / f"{name}.jsonl"
    path.touch()
    command = [sys.executable, __file__, "--module", name]
    command += ["--scratch", options.scratch, "--frames", options.frames.resolve()]
    command += ["--quick"] if options.quick else []
    command += ["--rounds", options.rounds] if options.rounds else []
    # Processes that a module started are ended with it.
    process = subprocess.Popen(list(map(str, command)), start_new_session=True)
    deadline = time.monotonic() + limit_s
    try:
        with path.open(encoding="utf-8") as lines:
            while process.poll() is None and time.monotonic() < deadline:
                yield from _rows(lines)
                time.sleep(0.2)
            yield from _rows(lines)
        if process.poll() is None:
            yield f"{name}: the rest is not measured: not through after {limit_s:.0f} s"
        elif process.returncode:
            yield f"{name}: the rest is not measured: its process ended with {process.returncode}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _rows(lines: Any) -> Iterator[Found]:
    for line in lines:
        values = json.loads(line)
        if isinstance(values, str):
            yield values
            continue
        pair = values.pop("pair")
        yield Row(**values, pair=None if pair is None else Pair(tuple(pair["ours"]), tuple(pair["peer"])))


def _measure(options: argparse.Namespace) -> int:
    """In the process of one module: a line of JSON per row, a text for a part that failed."""
    scratch = options.scratch / options.module
    scratch.mkdir()
    rounds = options.rounds or (1 if options.quick else 5)
    bench = Bench(options.frames, scratch, options.quick, rounds, importlib.util.find_spec("paddleseg") is not None)
    module = importlib.import_module(options.module)
    with (options.scratch / f"{options.module}.jsonl").open("a", encoding="utf-8") as file:

        def write(value: Any) -> None:
            file.write(json.dumps(value) + "\n")
            file.flush()

        for part in module.PARTS:
            try:
                for row in part(bench):
                    write(dataclasses.asdict(row))
            except Exception as error:
                traceback.print_exc()
                text = f"{options.module}, {part.__name__}: not measured: {type(error).__name__}: {error}"
                write(text.replace("\n", " ").replace("|", "/")[:300])
    return 0


if __name__ == "__main__":
    sys.exit(main())
