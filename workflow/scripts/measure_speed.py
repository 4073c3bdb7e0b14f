"""Measure inference latency, and read the training speed from a run's history."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.files import read_json, write_json


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "measure_speed",
        __doc__ or "",
        "--config speed.json --weights model.pdparams --history history.jsonl --provenance provenance.json "
        "--output speed.json",
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: model, speed"),
        ("weights", "FILE", ".pdparams or .safetensors"),
        ("history", "FILE", "history.jsonl of the run"),
        ("provenance", "FILE", "provenance.json of the run"),
        ("output", "FILE", "JSON file to write"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    program.add_device_options(parser)
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.evaluation.speed import measure_inference, training_speed
    from stdc.machine import devices
    from stdc.training.recorder import read_history

    config = read_json(options.config)
    hardware = read_json(options.provenance)["hardware"]
    devices.prepare(options.device, options.threads)
    devices.select(options.device)
    from stdc.evaluation.predict import load_network

    model = load_network(config["model"], options.weights)
    inference = measure_inference(model, config["speed"], options.device)
    inference["threads"] = options.threads
    training = training_speed(read_history(options.history), hardware["devices"])
    write_json(options.output, {"inference": inference, "training": training})
    middle = inference["latency_ms"]["p50"]
    print(
        f"measure_speed: inference {inference['fps']:.2f} FPS, {middle:.1f} ms in the middle, at "
        f"{inference['size'][1]}x{inference['size'][0]}; training {training['images_per_s']} images/s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
