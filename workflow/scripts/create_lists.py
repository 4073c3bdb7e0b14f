"""Write train.txt, val.txt and test.txt: which image goes with which label."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.data.convert import read_index
from stdc.data.lists import check_separator, make_lists, write_lists
from stdc.data.manifest import read_manifest


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "create_lists",
        __doc__ or "",
        "--manifest manifest.json --index labels.json --output lists",
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="of check_dataset")
    parser.add_argument("--index", type=Path, required=True, metavar="FILE", help="of convert_labels")
    parser.add_argument("--separator", default=",", help="between the two paths")
    parser.add_argument("--subset-train", type=int, metavar="N", help="take N frames, spread over cities; default all")
    parser.add_argument("--subset-val", type=int, metavar="N", help="take N frames, spread over cities; default all")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of the three lists")
    return parser


def main(options: argparse.Namespace) -> None:
    check_separator(options.separator)
    manifest = read_manifest(options.manifest)
    index = read_index(options.index, options.manifest)
    lists = make_lists(manifest, index, {"train": options.subset_train, "val": options.subset_val})
    write_lists(options.output, lists, options.separator)
    program.logger("create_lists")(", ".join(f"{split} {len(pairs)}" for split, pairs in lists.items()) + " frames")


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
