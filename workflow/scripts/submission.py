"""Check predictions of a split and zip them for the Cityscapes server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.data.layout import SPLITS
from stdc.data.manifest import read_manifest
from stdc.evaluation.submission import write_submission
from stdc.progress import Progress


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "submission", __doc__ or "", "--predictions predictions --manifest manifest.json --output submission.zip"
    )
    parser.add_argument("--predictions", type=Path, required=True, metavar="FOLDER", help="of predict")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="of check_dataset")
    parser.add_argument("--split", default="test", choices=SPLITS, help="which frames must be there")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the archive (.zip)")
    return parser


def main(options: argparse.Namespace) -> None:
    frames = [entry for entry in read_manifest(options.manifest)["frames"] if entry["split"] == options.split]
    progress = Progress("predictions", len(frames))
    count = write_submission(options.predictions, frames, options.output, progress.step)
    progress.finish()
    program.logger("submission")(f"{count} predictions in {options.output}")


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
