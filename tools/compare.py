"""Results folders side by side: recipe, data, weights, scores with their spread over seeds and images, speed."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.files import write_text
from stdc.report.compare_page import as_text, render
from stdc.results.comparison import compare, read_runs


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("compare", __doc__ or "", "results/a results/b --output compare.html")
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="FOLDER", help="results folders; the first is the base"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="HTML page to write")
    parser.add_argument("--json", action="store_true", help="for programs: JSON on stdout")
    return parser


def main(options: argparse.Namespace) -> None:
    comparison = compare(read_runs(options.results))
    print(json.dumps(asdict(comparison), indent=1) if options.json else as_text(comparison), flush=True)
    if options.output is not None:
        write_text(options.output, render(comparison))
        print(f"compare: wrote {options.output}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
