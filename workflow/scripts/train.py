"""Train one seed: from lists and rasters to weights, exactly resumable."""

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
    print(line if line.startswith("train: ") else f"train: {line}", file=sys.stderr, flush=True)


def main(options: argparse.Namespace) -> None:
    from stdc.training.train_job import Hardware, Inputs, Outputs, TrainJob

    job = TrainJob(
        config=read_json(options.config),
        inputs=Inputs(
            dataset=options.dataset,
            labels=options.labels,
            manifest=options.manifest,
            train_list=options.train_list,
            val_list=options.val_list,
            backbone=options.backbone,
        ),
        outputs=Outputs(
            model=options.model,
            best=options.best,
            history=options.history,
            provenance=options.provenance,
            vdl=options.vdl,
        ),
        hardware=Hardware(options.device, options.devices, options.threads, options.workers),
        seed=options.seed,
        runs=options.runs,
        say=say,
    )
    job.run(ranks.without_option(sys.argv, "--log"))


if __name__ == "__main__":
    if ranks.in_rank():
        # Before anything slow: a rank must not outlive its launcher.
        ranks.enter_rank()
    arguments = program.parser("train", __doc__)
    for name, text in (
        ("config", "stage configuration: model, train, data"),
        ("dataset", "dataset root; only read"),
        ("labels", "folder of train id rasters"),
        ("manifest", "manifest of the dataset"),
        ("train-list", "list of training pairs"),
        ("val-list", "list of validation pairs"),
    ):
        arguments.add_argument(f"--{name}", type=Path, required=True, metavar="PATH", help=text)
    arguments.add_argument(
        "--backbone", type=Path, metavar="FILE", help="ImageNet weights; none: random initialization"
    )
    arguments.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    arguments.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where checkpoints live")
    arguments.add_argument("--device", default="cpu", help="cpu, gpu or iluvatar_gpu")
    arguments.add_argument("--devices", type=int, default=1, metavar="N", help="how many of them")
    arguments.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="CPU threads a process"
    )
    arguments.add_argument("--workers", type=int, default=0, metavar="N", help="data worker processes a device")
    arguments.add_argument("--model", type=Path, required=True, metavar="FILE", help="final weights, written last")
    arguments.add_argument("--best", type=Path, metavar="FILE", help="best weights by validation mIoU")
    arguments.add_argument("--history", type=Path, required=True, metavar="FILE", help="one JSON line an event")
    arguments.add_argument("--provenance", type=Path, required=True, metavar="FILE", help="where the weights come from")
    arguments.add_argument("--vdl", type=Path, metavar="FOLDER", help="VisualDL records")
    sys.exit(program.run(arguments, main))
