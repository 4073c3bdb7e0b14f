"""Make the rasters of train ids that training and evaluation read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.data.convert import convert_labels
from stdc.progress import Progress


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "convert_labels",
        __doc__ or "",
        "--dataset /data/cityscapes --manifest manifest.json --output labels --index labels.json",
    )
    parser.add_argument("--dataset", type=Path, required=True, metavar="FOLDER", help="only read")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="of check_dataset")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many share the work")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the rasters")
    parser.add_argument(
        "--index", type=Path, required=True, metavar="FILE", help="the rasters made; written last (JSON)"
    )
    return parser


def main(options: argparse.Namespace) -> None:
    convert_labels(
        options.dataset,
        options.manifest,
        options.output,
        options.index,
        processes=options.processes,
        progress=lambda total: Progress("labels", total),
    )


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
