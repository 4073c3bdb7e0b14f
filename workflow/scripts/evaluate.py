"""Evaluate trained weights on whole validation images, under every protocol of the configuration, in one pass."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.machine import leases, ranks
from stdc.stages import read_evaluate_stage

log = program.logger("evaluate")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "evaluate",
        __doc__ or "",
        "--config evaluate.json --weights model.pdparams --dataset /data/cityscapes --labels labels "
        "--manifest manifest.json --index labels.json --list val.txt --output metrics.json",
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: model, train, evaluate, data"),
        ("weights", "FILE", "trained weights, .pdparams or .safetensors"),
        ("dataset", "FOLDER", "dataset root; only read"),
        ("labels", "FOLDER", "folder of train id rasters"),
        ("manifest", "FILE", "manifest of the dataset"),
        ("index", "FILE", "label rasters that were made, of convert_labels"),
        ("list", "FILE", "list of the validation frames"),
        ("output", "FILE", "figures (JSON)"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    program.add_device_options(parser, several=True)
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.evaluation.evaluate_job import EvaluateJob

    job = EvaluateJob(
        stage=read_evaluate_stage(options.config),
        weights=options.weights,
        dataset=options.dataset,
        labels=options.labels,
        manifest=options.manifest,
        index=options.index,
        val_list=options.list,
        output=options.output,
        device=options.device,
        devices=options.devices,
        threads=options.threads,
        log=log,
    )
    with leases.leased(options.device, options.devices, log):
        job.run(ranks.without_option(sys.argv, "--log"))


if __name__ == "__main__":
    if ranks.in_rank():
        # Before anything slow: a rank must not outlive its launcher.
        ranks.enter_rank()
    sys.exit(program.run(arguments(), main))
