"""Predict the frames of a split as label id PNGs, named as the Cityscapes server finds them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc import files, recipe
from stdc.data.dataset import EvalDataset
from stdc.data.entries import image_entries
from stdc.data.layout import SPLITS, refuse_inside
from stdc.data.manifest import read_manifest
from stdc.errors import InputError
from stdc.machine import devices
from stdc.progress import Progress


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "predict",
        __doc__ or "",
        "--config evaluate.json --weights model.pdparams --dataset /data/cityscapes --manifest manifest.json "
        "--output predictions",
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: model, train, evaluate; the first protocol is used"),
        ("weights", "FILE", "trained weights, .pdparams or .safetensors"),
        ("dataset", "FOLDER", "dataset root; only read"),
        ("manifest", "FILE", "manifest of the dataset"),
        ("output", "FOLDER", "folder of the predictions"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    parser.add_argument("--split", default="test", choices=SPLITS, help="which frames")
    parser.add_argument("--overlay", action="store_true", help="also color pictures, in the subfolder overlays/")
    program.add_device_options(parser)
    return parser


def main(options: argparse.Namespace) -> None:
    config = files.read_json(options.config)
    refuse_inside(options.output, options.dataset, "predictions")
    entries = image_entries(options.dataset, read_manifest(options.manifest), options.split)
    if not entries:
        raise InputError(f"{options.manifest}: no frame in split {options.split}")
    dataset = EvalDataset(entries, *recipe.normalization(config["train"]))
    devices.prepare(options.device, options.threads)

    from stdc.evaluation import predict

    devices.select(options.device)
    protocol = predict.read_protocols(config["evaluate"]["protocols"])[0]
    model = predict.load_network(config["model"], options.weights)
    progress = Progress("images", len(dataset))
    predict.write_predictions(model, dataset, protocol, options.output, options.overlay, progress.step)
    progress.finish()


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
