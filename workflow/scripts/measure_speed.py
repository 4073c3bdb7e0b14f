"""Measure inference latency, and read the training speed from a run's history where there is one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.errors import InputError
from stdc.files import write_json
from stdc.stages import read_speed_stage
from stdc.units import size_text

log = program.logger("measure_speed")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "measure_speed",
        __doc__ or "",
        "--config speed.json --weights model.pdparams --history history.jsonl --provenance provenance.json "
        "--output speed.json",
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: model, train, speed"),
        ("weights", "FILE", ".pdparams or .safetensors"),
        ("output", "FILE", "JSON file to write"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    for name, text in (("history", "history.jsonl"), ("provenance", "provenance.json")):
        parser.add_argument(
            f"--{name}", type=Path, metavar="FILE", help=f"{text} of the training; weights that were given have none"
        )
    program.add_device_options(parser)
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.evaluation.speed import (
        measure_inference,
        read_devices,
        read_intervals,
        read_neighbors,
        training_speed,
    )
    from stdc.machine import devices, leases
    from stdc.machine.neighbors import Neighbors, words
    from stdc.prediction import backends

    stage = read_speed_stage(options.config)
    if (options.history is None) != (options.provenance is None):
        raise InputError("--history and --provenance: both or neither, since they belong to one training")
    training = None
    if options.history is not None:
        training = training_speed(read_intervals(options.history), read_devices(options.provenance))
        training["beside_devices"] = read_neighbors(options.provenance)
    backend = backends.resolve(stage.speed.backend, options.device, log)
    with leases.leased(options.device, 1, log):
        devices.prepare(options.device, options.threads, devices.kernel_flags(stage.kernels))
        devices.select(options.device)
        source = backends.Source(stage.network, options.weights, options.device, options.threads)
        predictor = backends.open_predictor(backend, source)
        watch = Neighbors(options.device)
        inference = measure_inference(predictor, stage.speed)
        inference["beside"] = watch.beside()
        inference["precision"] = devices.precision(options.device)
        inference["threads"] = options.threads
    write_json(options.output, {"inference": inference, "training": training})
    middle = inference["latency_ms"]["p50"]
    log(
        f"inference {inference['fps']:.2f} FPS, median {middle:.1f} ms, at "
        f"{size_text(inference['size'])}{words(inference['beside'])}"
        + (f"; training {training['images_per_s']:.2f} images/s" if training else "")
    )


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
