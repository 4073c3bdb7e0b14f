"""Write a model card (Markdown) from the verdict of a results folder."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.files import read_json, write_text
from stdc.report.model_card import VERDICT, model_card
from stdc.results.folder import require_folder
from stdc.results.shapes import check


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("model_card", __doc__ or "", "results/mini --output results/mini/model_card.md")
    parser.add_argument("results", type=Path, metavar="FOLDER", help="a results folder, such as results/mini")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write; on stdout if left out")
    return parser


def main(options: argparse.Namespace) -> None:
    require_folder(options.results)
    verdict_path = options.results / "verdict.json"
    verdict = read_json(verdict_path)
    check(verdict_path, verdict, VERDICT, "run report again")
    provenance = None
    path = options.results / f"seed{next(iter(verdict['seeds']), 0)}" / "provenance.json"
    # A link to nowhere counts as a file that is there, so that reading it names the broken link.
    if os.path.lexists(path):
        provenance = read_json(path)
    text = model_card(verdict, provenance if isinstance(provenance, dict) else None)
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_text(options.output, text)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
