"""Train one seed: from lists and rasters to weights, exactly resumable."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import program
from stdc.machine import leases, ranks
from stdc.units import counted

if TYPE_CHECKING:
    from stdc.machine.nodes import Nodes

log = program.logger("train")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "train",
        __doc__ or "",
        "--config train.json --dataset /data/cityscapes --labels labels --manifest manifest.json --index labels.json "
        "--train-list train.txt --val-list val.txt --model model.pdparams --history history.jsonl --provenance "
        "provenance.json",
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: model, train, data"),
        ("dataset", "FOLDER", "dataset root; only read"),
        ("labels", "FOLDER", "folder of train id rasters"),
        ("manifest", "FILE", "manifest of the dataset"),
        ("index", "FILE", "index of the rasters (labels.json)"),
        ("train-list", "FILE", "list of training pairs"),
        ("val-list", "FILE", "list of validation pairs"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    parser.add_argument(
        "--backbone",
        type=Path,
        metavar="FILE",
        help="weights to start from, as fetch_weights leaves them",
    )
    parser.add_argument("--start-record", type=Path, metavar="FILE", help="what these weights are, for the provenance")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where checkpoints live")
    program.add_device_options(parser, several=True)
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="data worker processes per device")
    parser.add_argument(
        "--frame-cache", default="", metavar="FOLDER", help="keep decoded frames here; none: decode for every sample"
    )
    parser.add_argument("--frame-cache-gb", type=float, default=40.0, metavar="N", help="gigabytes for them at most")
    parser.add_argument(
        "--micro-batch", type=int, metavar="N", help="images per forward pass; none: all that a device has per step"
    )
    parser.add_argument(
        "--sync-batch-norm",
        choices=("auto", "portable"),
        default="auto",
        help="how several ranks synchronize it; auto: by Paddle's kernel where there is one and it computes right",
    )
    parser.add_argument(
        "--step-limit", type=float, default=600.0, metavar="SECONDS", help="longest wait for a step before the run ends"
    )
    parser.add_argument(
        "--pause-limit",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="the same for starting, evaluating and saving",
    )
    parser.add_argument(
        "--rendezvous-limit",
        type=float,
        default=100.0,
        metavar="SECONDS",
        help="the same until all nodes and ranks have begun",
    )
    parser.add_argument(
        "--nodes", type=int, metavar="N", help="machines with so many devices each; none: as many as the job has"
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="final weights, written last")
    parser.add_argument("--best", type=Path, metavar="FILE", help="best weights by validation mIoU")
    parser.add_argument("--history", type=Path, required=True, metavar="FILE", help="one JSON line per event")
    parser.add_argument("--provenance", type=Path, required=True, metavar="FILE", help="where the weights come from")
    parser.add_argument("--vdl", type=Path, metavar="FOLDER", help="VisualDL records")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.machine import joining
    from stdc.machine.nodes import Nodes, find_nodes

    if ranks.in_rank():
        # A rank is started by its node's watcher, which has found the nodes.
        _train(options, Nodes(ranks.rank_and_world()[1] // options.devices))
        return
    with joining.announced(options.runs, find_nodes(options.nodes, os.environ), sys.argv, os.environ) as nodes:
        _train(options, nodes)


def _train(options: argparse.Namespace, nodes: Nodes) -> None:
    from stdc.machine.heartbeat import Limits
    from stdc.stages import read_train_stage
    from stdc.training.job_settings import Hardware, Inputs, Outputs
    from stdc.training.train_job import TrainJob

    job = TrainJob(
        stage=read_train_stage(options.config),
        inputs=Inputs(
            dataset=options.dataset,
            labels=options.labels,
            manifest=options.manifest,
            index=options.index,
            train_list=options.train_list,
            val_list=options.val_list,
            backbone=options.backbone,
            start_record=options.start_record,
        ),
        outputs=Outputs(
            model=options.model,
            best=options.best,
            history=options.history,
            provenance=options.provenance,
            vdl=options.vdl,
        ),
        hardware=Hardware(
            device=options.device,
            devices=options.devices,
            threads=options.threads,
            workers=_workers(options.workers, options.devices),
            micro_batch=options.micro_batch,
            portable_sync_batch_norm=options.sync_batch_norm == "portable",
            nodes=nodes,
            frame_cache=options.frame_cache or None,
            frame_cache_gb=options.frame_cache_gb,
        ),
        seed=options.seed,
        runs=options.runs,
        limits=Limits(options.step_limit, options.pause_limit, options.rendezvous_limit),
        log=log,
    )
    with leases.leased(options.device, options.devices, log):
        job.run(sys.argv)


def _workers(asked: int, devices: int) -> int:
    """Data workers per device: as asked for, but no more than two per CPU. Their number changes no result."""
    from stdc.machine.cgroup import usable_cpus

    cpus = usable_cpus()
    most = max(1, 2 * cpus // devices)
    if asked > most and not ranks.in_rank():
        log(f"{counted(most, 'data worker')} per device, not {asked}: this process may use {cpus} CPUs")
    return min(asked, most)


if __name__ == "__main__":
    if ranks.in_rank():
        # Before anything slow: a rank must not outlive its launcher.
        ranks.enter_rank()
    sys.exit(program.run(arguments(), main))
