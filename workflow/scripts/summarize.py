"""Sum up the experiments of a sweep: mean and spread over the seeds, and every two of them held against each other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.files import write_json, write_text


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "summarize",
        __doc__ or "",
        "--name study --json summary.json --markdown summary.md --page summary.html results/study/base "
        "results/study/lr02",
    )
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="FOLDER", help="results folders; the first is the base"
    )
    parser.add_argument("--name", required=True, help="of the sweep")
    for name, text in (("json", "JSON file"), ("markdown", "Markdown file"), ("page", "HTML file")):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help=f"{text} to write")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.report.sweep_page import render
    from stdc.results.comparison import compare
    from stdc.results.sweep_summary import read_sweep, summarize

    runs = read_sweep(options.results)
    summary = summarize(options.name, runs)
    write_text(options.page, render(summary, compare(runs)))
    write_text(options.markdown, summary.as_markdown())
    write_json(options.json, summary.as_document())


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
