"""Get the weights that a training starts from: download or find them, check them, and keep them as safetensors."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import program
from stdc import recipe
from stdc.files import write_json
from stdc.stages import read_sections


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("fetch_weights", __doc__ or "", "--config start.json --output start.safetensors")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="stage configuration: model")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="safetensors file to write; downloads/ and first-seen/ lie beside it",
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="source and checksum of what was fetched (JSON)")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.machine import devices
    from stdc.weights.fetch import fetch, start_of

    model = read_sections(options.config, "model")["model"]
    recipe.part_of(recipe.Network, model)
    wanted = start_of(model)
    devices.prepare("cpu", 1)
    record = fetch(wanted, options.output, program.logger("fetch_weights"))
    if options.record is not None:
        write_json(options.record, dataclasses.asdict(record))


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
