"""Draw the pictures of the README anew: the DAG, a report, the terminal. Needs a finished `make run`.

Only the generated dataset is shown; results of another dataset are refused. Needs Graphviz' `dot` and `chromium`.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.errors import InputError
from stdc.results.folder import read_report_stage

_ROOT = Path(__file__).resolve().parents[1]

#: Width and height of the pictures, pixels. The report is shown from its top.
REPORT_SIZE, TERMINAL_WIDTH = (1100, 1500), 980

_TERMINAL_STYLE = """body { margin: 0; background: #16181d; color: #d7dae0; padding: 18px 22px; }
pre { font: 13px/1.45 "DejaVu Sans Mono", monospace; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }"""
_LINE_HEIGHT, _PADDING = 13 * 1.45, 36
#: Characters of the terminal's font that fit on a line.
_COLUMNS = 118
#: Lines shown of the terminal's text: the last ones, which hold the verdict.
_MOST_LINES = 70


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("pictures", (__doc__ or "").split("\n\n")[0], "--terminal run.txt --output docs/images")
    parser.add_argument("--results", type=Path, default=Path("results/mini"), metavar="FOLDER", help="results folder")
    parser.add_argument("--terminal", type=Path, metavar="FILE", help="what `make run` printed; left out: not drawn")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), metavar="FOLDER", help="where they go")
    return parser


def main(options: argparse.Namespace) -> None:
    stage = read_report_stage(options.results / "config" / "report.json")
    if stage.dataset_kind != "synthetic":
        raise InputError(
            f"{options.results}: not of the generated dataset; pictures of another one may not be passed on"
        )
    tools = {name: _tool(name) for name in ("chromium", "dot", "tred")}
    options.output.mkdir(parents=True, exist_ok=True)
    _draw_dag(tools["dot"], tools["tred"], options.output / "dag.svg")
    _photograph(tools["chromium"], options.results / "report.html", options.output / "report.png", *REPORT_SIZE)
    if options.terminal is not None:
        _draw_terminal(tools["chromium"], options.terminal, options.output / "terminal.png")
    print(f"pictures: wrote {options.output}", file=sys.stderr, flush=True)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        package = {"dot": "graphviz", "tred": "graphviz"}.get(name, name)
        raise InputError(f"{name}: not found; install it, on Debian by `apt install {package}`")
    return found


def _draw_dag(dot: str, tred: str, output: Path) -> None:
    snakemake = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(_ROOT / ".venv" / "workflow" / "bin" / "python")
    command = [snakemake, "-m", "snakemake", "--snakefile", str(_ROOT / "Snakefile"), "--rulegraph"]
    graph = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    # The configuration files of the stages would be half of the boxes.
    hidden = set(re.findall(r'^\s*(\d+)\[label = "(?:write_\w+|all)"', graph, re.MULTILINE))
    lines = [line for line in graph[graph.index("digraph") :].splitlines() if not _mentions(line, hidden)]
    # `tred` leaves out an arrow where a longer path connects the same two boxes.
    pipe = {"capture_output": True, "text": True, "check": True, "timeout": 60}
    reduced = subprocess.run([tred], input="\n".join(lines), **pipe).stdout
    subprocess.run([dot, "-Tsvg", "-Grankdir=LR", "-o", str(output)], input=reduced, **pipe)


def _mentions(line: str, nodes: set[str]) -> bool:
    match = re.match(r"\s*(\d+)(?: -> (\d+))?", line)
    return match is not None and any(node in nodes for node in match.groups() if node)


def _draw_terminal(chromium: str, text: Path, output: Path) -> None:
    plain = re.sub(r"\033\[[\d;]*[A-Za-z]", "", text.read_text(encoding="utf-8"))
    lines: List[str] = plain.rstrip().splitlines()[-_MOST_LINES:]
    height = sum(max(1, -(-len(line) // _COLUMNS)) for line in lines) * _LINE_HEIGHT + _PADDING
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "terminal.html"
        shown = html.escape("\n".join(lines))
        page.write_text(
            f"<!doctype html><meta charset=utf-8><style>{_TERMINAL_STYLE}</style><pre>{shown}</pre>", encoding="utf-8"
        )
        _photograph(chromium, page, output, TERMINAL_WIDTH, int(height))


def _photograph(chromium: str, page: Path, output: Path, width: int, height: int) -> None:
    """A picture of the top of a page."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={width},{height}", f"--screenshot={output.resolve()}", page.resolve().as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=120)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
