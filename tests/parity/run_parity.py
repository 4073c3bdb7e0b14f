"""Compare this code with independent implementations, side by side, and print a table.

    python tests/parity/run_parity.py                           # environments made by setup.sh; 4 minutes on 2 cores
    python tests/parity/run_parity.py --docs docs/fidelity.md   # also writes the table into the page

Each comparison runs in an environment of its own; this program starts them and collects their rows. It ends with 1 when
a row does not hold. Nothing but Python is needed to run it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BEGIN, END = "<!-- parity: begin, written by tests/parity/run_parity.py -->", "<!-- parity: end -->"
TIME_LIMIT_S = 900

#: Programs that write {"backend", "rows": [{"what", "peer", "tolerance", "measured"}]} to `--out`.
COMPARISONS = ("network/compare.py", "network/validation.py", "transforms/compare.py")

Row = Dict[str, Any]


def run(python: Path, program: str, *arguments: str) -> None:
    """Run one program of this folder.

    Raises:
        SystemExit: it failed; its last lines are shown.
    """
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore", GLOG_minloglevel="2")
    print(f"{python.parent.parent.name}: {program}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [str(python), str(HERE / program), *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-25:])
        sys.exit(f"run_parity.py: {program} ended with {done.returncode}:\n{last}")


def collect(paddles: Sequence[Path], torch: Path, folder: Path) -> Dict[str, List[Row]]:
    """All rows by backend, for example "paddle 3.3.1"."""
    live = folder / "live"
    live.mkdir()
    run(torch, "authors/make_arrays.py", "--live", str(live))
    collected: Dict[str, List[Row]] = {}
    for python in paddles:
        jobs: List[Tuple[str, List[str]]] = [(name, []) for name in COMPARISONS]
        jobs.append(("authors/compare.py", [str(live)]))
        for name, arguments in jobs:
            out = folder / "rows.json"
            run(python, name, *arguments, "--out", str(out))
            made = json.loads(out.read_text(encoding="utf-8"))
            collected.setdefault(made["backend"], []).extend(made["rows"])
    return collected


def holds(row: Row) -> bool:
    """Whether the difference is a number within the tolerance."""
    return math.isfinite(row["measured"]) and row["measured"] <= row["tolerance"]


def table(collected: Dict[str, List[Row]]) -> str:
    """The rows as a Markdown table, one column of differences a backend."""
    backends = list(collected)
    lines = ["| what | peer | tolerance | " + " | ".join(backends) + " | holds |"]
    lines.append("|---|---|---|" + "---|" * (len(backends) + 1))
    keys = list(dict.fromkeys((row["what"], row["peer"]) for rows in collected.values() for row in rows))
    for what, peer in keys:
        found = {
            backend: row
            for backend, rows in collected.items()
            for row in rows
            if (row["what"], row["peer"]) == (what, peer)
        }
        tolerance = next(iter(found.values()))["tolerance"]
        measured = [f"{found[backend]['measured']:.2g}" if backend in found else "-" for backend in backends]
        verdict = "yes" if all(holds(row) for row in found.values()) else "**NO**"
        lines.append(f"| {what} | {peer} | {tolerance:g} | " + " | ".join(measured) + f" | {verdict} |")
    return "\n".join(lines)


def write_docs(page: Path, text: str) -> None:
    """Put the table between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.exit(f"run_parity.py: {page}: no line {BEGIN!r} … {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


@contextlib.contextmanager
def scratch(kept: Any) -> Iterator[Path]:
    """A folder for what passes between the programs: `kept`, or one that is removed."""
    if kept:
        kept.mkdir(parents=True, exist_ok=False)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    venvs = REPOSITORY / ".venv"
    default = [venvs / "parity-paddle3" / "bin" / "python", venvs / "parity-paddle2" / "bin" / "python"]
    parser.add_argument(
        "--paddle", type=Path, nargs="+", default=default, help="interpreters with Paddle and PaddleSeg"
    )
    parser.add_argument("--torch", type=Path, default=venvs / "parity-torch" / "bin" / "python")
    parser.add_argument("--docs", type=Path, help="page to write the table into")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder for the intermediate files (330 MB)")
    options = parser.parse_args()
    for python in [*options.paddle, options.torch]:
        if not python.is_file():
            sys.exit(f"run_parity.py: {python}: no such interpreter; run tests/parity/setup.sh")
    with scratch(options.keep) as folder:
        collected = collect(options.paddle, options.torch, folder)
    text = table(collected)
    print(text)
    if options.docs:
        write_docs(options.docs, text)
    failed = sum(not holds(row) for rows in collected.values() for row in rows)
    if failed:
        sys.exit(f"run_parity.py: {failed} comparisons do not hold")


if __name__ == "__main__":
    main()
