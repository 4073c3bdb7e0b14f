"""Get ImageNet weights of the backbone: check them, and keep them as safetensors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.errors import InputError
from stdc.files import read_json


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("fetch_backbone", __doc__ or "", "--config backbone.json --output backbone.safetensors")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="stage configuration: model")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.machine import devices

    model = read_json(options.config)["model"]
    pretrained = model["pretrained"]
    if not pretrained["source"]:
        raise InputError("model.pretrained.source: null; there is nothing to fetch")
    devices.prepare("cpu", 1)
    from stdc.weights.pretrained import fetch_backbone

    fetch_backbone(
        pretrained["source"],
        pretrained["sha256"],
        model["backbone"],
        options.output,
        lambda line: print(f"fetch_backbone: {line}", file=sys.stderr, flush=True),
    )


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
