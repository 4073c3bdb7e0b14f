"""Check a dataset folder and write its manifest. The folder is only read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.data.inventory import EXPECTATIONS, JOURNAL_SUFFIX, check_dataset
from stdc.data.layout import refuse_inside
from stdc.errors import shown
from stdc.files import write_json
from stdc.progress import Progress

log = program.logger("check_dataset")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("check_dataset", __doc__ or "", "--dataset /data/cityscapes --output manifest.json")
    parser.add_argument("--dataset", type=Path, required=True, metavar="FOLDER", help="holds leftImg8bit/ and gtFine/")
    parser.add_argument("--expect", choices=EXPECTATIONS, default="any", help="the full official set, or any")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many share the work")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the manifest (JSON)")
    return parser


def main(options: argparse.Namespace) -> None:
    refuse_inside(options.output, options.dataset, "the manifest")
    journal = options.output.with_name(options.output.name + JOURNAL_SUFFIX)
    manifest = check_dataset(
        options.dataset,
        options.expect,
        options.processes,
        journal=journal,
        log=log,
        progress=lambda total: Progress("frames", total),
    )
    write_json(options.output, manifest)
    journal.unlink(missing_ok=True)
    counts = ", ".join(f"{split} {content['frames']}" for split, content in manifest["splits"].items())
    log(f"{shown(options.dataset)} is sound: {counts} frames, labels from {manifest['label_source']}")


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
