"""Draw a mini-Cityscapes: street scenes with the real layout, the same bytes for the same configuration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.data.synthetic.writer import make_dataset, read_section
from stdc.files import read_json
from stdc.progress import Progress


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "make_synthetic", __doc__ or "", "--config synthetic.json --output dataset --index dataset.json"
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="JSON with the section synthetic")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many share the work")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="dataset root; replaced")
    parser.add_argument("--index", type=Path, required=True, metavar="FILE", help="SHA-256 of every file, written last")
    return parser


def main(options: argparse.Namespace) -> None:
    config = read_json(options.config)
    wanted = read_section(config.get("synthetic") if isinstance(config, dict) else None)
    progress = Progress("frames", wanted.train + wanted.val + wanted.test)
    make_dataset(wanted, options.output, options.index, processes=options.processes, done=progress.step)
    progress.finish()


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
