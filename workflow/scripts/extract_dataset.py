"""Verify the two official zips and unpack them into a folder of our own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.data.archives import extract_archives
from stdc.progress import Progress


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "extract_dataset", __doc__ or "", "--archives /data/zips --output dataset --index dataset.json"
    )
    parser.add_argument("--archives", type=Path, required=True, metavar="FOLDER", help="holds the two zips")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the dataset")
    parser.add_argument("--index", type=Path, required=True, metavar="FILE", help="what was unpacked; written last")
    return parser


def main(options: argparse.Namespace) -> None:
    extract_archives(options.archives, options.output, options.index, progress=Progress)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
