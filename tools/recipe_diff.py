"""Show a recipe beside the published ones, and what samples seen and learning rate come to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.errors import InputError
from stdc.published import recipe_diff
from stdc.recipe import resolve
from stdc.stages import read_configuration


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "recipe_diff",
        __doc__ or "",
        "--config config/stdc1_cityscapes_1024x512_80k.yaml --devices 8",
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="a recipe, or config/train.json of a run",
    )
    parser.add_argument("--devices", type=int, metavar="N", help="devices; the recipe's own number if left out")
    parser.add_argument("--markdown", action="store_true", help="a table for a document instead of a terminal")
    return parser


def main(options: argparse.Namespace) -> None:
    config = read_configuration(options.config)
    if not isinstance(config.get("train"), dict):
        raise InputError(f"{options.config}: a section train is expected")
    hardware = config.get("hardware") or {}
    devices = options.devices if options.devices is not None else hardware.get("devices") or 1
    rows = recipe_diff.compare(resolve(config["train"]), devices)
    print(recipe_diff.as_markdown(rows) if options.markdown else recipe_diff.as_text(rows, sys.stdout.isatty()))


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
