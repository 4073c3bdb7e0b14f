"""Export a trained network: Paddle's inference format and ONNX, for any size, compared with the network on the spot."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.files import sha256_file
from stdc.machine.cgroup import usable_cpus
from stdc.stages import read_evaluate_stage

log = program.logger("export")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "export", __doc__ or "", "--config evaluate.json --weights model.pdparams --output exported"
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: model, train, evaluate, data"),
        ("weights", "FILE", "trained weights, .pdparams or .safetensors"),
        ("output", "FOLDER", "gets network.onnx, network.pdiparams, its program, and export.json"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    parser.add_argument("--threads", type=int, default=usable_cpus(), metavar="N", help="CPU threads")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.machine import devices

    stage = read_evaluate_stage(options.config)
    devices.prepare("cpu", options.threads)
    devices.select("cpu")
    from stdc.prediction.export import Trained, export
    from stdc.prediction.predict import load_network

    model = load_network(stage.network, options.weights)
    trained = Trained(model, stage.network, stage.mean, stage.std, sha256_file(options.weights))
    description = export(trained, options.output, options.threads, log)
    log(f"wrote {', '.join(sorted(description['files']))} and export.json in {options.output}")


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
