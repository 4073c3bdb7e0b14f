"""Evaluate trained weights on whole validation images, under every protocol of the configuration, in one pass."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import program
from stdc.files import read_json
from stdc.machine import ranks


def say(line: str) -> None:
    # Lines that come from a rank have the name already.
    print(line if line.startswith("evaluate: ") else f"evaluate: {line}", file=sys.stderr, flush=True)


def main(options: argparse.Namespace) -> None:
    from stdc.evaluation.evaluate_job import EvaluateJob

    job = EvaluateJob(
        config=read_json(options.config),
        weights=options.weights,
        dataset=options.dataset,
        labels=options.labels,
        pairs=options.list,
        manifest=options.manifest,
        output=options.output,
        kind=options.device,
        devices=options.devices,
        threads=options.threads,
        say=say,
    )
    job.run(ranks.without_option(sys.argv, "--log"))


def arguments() -> argparse.ArgumentParser:
    made = program.parser("evaluate", __doc__ or "")
    for name, text in (
        ("config", "stage configuration: model, train, evaluate, data"),
        ("weights", "trained weights, .pdparams or .safetensors"),
        ("dataset", "dataset root; only read"),
        ("labels", "folder of train id rasters"),
        ("list", "list of image and label pairs"),
        ("manifest", "manifest of the dataset, for instance ids"),
        ("output", "figures (JSON)"),
    ):
        made.add_argument(f"--{name}", type=Path, required=True, metavar="PATH", help=text)
    made.add_argument("--device", default="cpu", help="cpu, gpu or iluvatar_gpu")
    made.add_argument("--devices", type=int, default=1, metavar="N", help="how many of them share the images")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="CPU threads a process")
    return made


if __name__ == "__main__":
    if ranks.in_rank():
        # Before anything slow: a rank must not outlive its launcher.
        ranks.enter_rank()
    sys.exit(program.run(arguments(), main))
