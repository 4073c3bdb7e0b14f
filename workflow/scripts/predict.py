"""Predict a picture, a folder of pictures, a video, or the frames of a split: label ids as PNG, and color pictures.

With `--dataset` and `--manifest` the predictions are named as the Cityscapes server finds them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.data.entries import image_entries
from stdc.data.layout import SPLITS, refuse_inside
from stdc.data.manifest import read_manifest
from stdc.errors import InputError
from stdc.presets import PRESETS
from stdc.stages import read_evaluate_stage

log = program.logger("predict")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "predict", __doc__ or "", "--weights model.pdparams --input drive.mp4 --output predictions --overlay"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="FILE",
        help=".pdparams, .safetensors, or an exported network: .onnx, or .pdiparams beside its program and export.json",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of the predictions")
    parser.add_argument("--input", type=Path, metavar="FILE", help="a picture, a video, or a folder of pictures")
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="instead of --input: dataset root; only read")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest of the dataset")
    parser.add_argument("--split", default="test", choices=SPLITS, help="which frames of the dataset")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="stage configuration: model, train, evaluate; the first protocol is used. Without it the network is told "
        "by its weights, and the images are seen at full size",
    )
    parser.add_argument(
        "--preset", default="paddleseg", choices=sorted(PRESETS), help="without --config: whose mean and std"
    )
    parser.add_argument(
        "--backend", choices=("paddle", "onnxruntime"), help="what computes (default: the configuration's, or paddle)"
    )
    parser.add_argument("--color", action="store_true", help="also the classes in color, in the subfolder colors/")
    parser.add_argument("--overlay", action="store_true", help="also image and color in one, in overlays/")
    parser.add_argument("--side-by-side", action="store_true", help="also image beside color, in side_by_side/")
    program.add_device_options(parser)
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.machine import leases
    from stdc.prediction.predict_job import source_of_frames, write_predictions
    from stdc.prediction.prediction_files import Wanted
    from stdc.prediction.sources import open_source
    from stdc.prediction.trained import Wish, open_trained

    if (options.input is None) == (options.dataset is None):
        raise InputError("either --input or --dataset is needed, and not both")
    if options.dataset is not None and options.manifest is None:
        raise InputError("--manifest is needed with --dataset; check_dataset makes it")
    stage = None if options.config is None else read_evaluate_stage(options.config)
    if options.input is not None:
        if options.input.is_dir():
            refuse_inside(options.output, options.input, "predictions")
        source = open_source(options.input)
    else:
        refuse_inside(options.output, options.dataset, "predictions")
        entries = image_entries(options.dataset, read_manifest(options.manifest), options.split)
        if not entries:
            raise InputError(f"{options.manifest}: no frame in split {options.split}")
        source = source_of_frames(entries)
    wish = Wish(options.weights, stage, options.preset, options.backend, options.device, options.threads)
    wanted = Wanted(options.color, options.overlay, options.side_by_side)
    with leases.leased(options.device, 1, log):
        count = write_predictions(open_trained(wish, log), source, options.output, wanted=wanted, log=log)
    log(f"{count} predictions in {options.output}")


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
