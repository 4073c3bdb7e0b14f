"""Compare a run with the published figures, and show on one page how the figures came about."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import List

import program

#: Set by the Snakefile: the words of the command that started the run, as JSON.
COMMAND_VARIABLE = "STDC_COMMAND"


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "report",
        __doc__ or "",
        "--config report.json --results results/mini --manifest manifest.json --dataset /data/cityscapes "
        "--labels labels --index labels.json --list val.txt --verdict verdict.json --report report.html",
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: name, seeds, dataset_kind, model, train, data, report"),
        ("results", "FOLDER", "results folder with seed<k>/"),
        ("manifest", "FILE", "manifest of the dataset"),
        ("dataset", "FOLDER", "dataset root; only read"),
        ("labels", "FOLDER", "folder of train id rasters"),
        ("index", "FILE", "label rasters that were made, of convert_labels"),
        ("list", "FILE", "list of the validation frames"),
        ("verdict", "FILE", "JSON file to write"),
        ("report", "FILE", "HTML file to write; a second one without pictures is written beside it"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    parser.add_argument(
        "--train-list", type=Path, metavar="FILE", help="list of the training frames, compared with the provenance"
    )
    parser.add_argument(
        "--benchmarks",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="logs/benchmark/<rule>/<run>.tsv of the stages; those that are not there are left out",
    )
    program.add_device_options(parser)
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.report.report_job import ReportJob, announcement

    job = ReportJob(
        config=options.config,
        results=options.results,
        manifest=options.manifest,
        dataset=options.dataset,
        labels=options.labels,
        index=options.index,
        val_list=options.list,
        train_list=options.train_list,
        benchmarks=options.benchmarks,
        command=_command(),
        device=options.device,
        threads=options.threads,
        verdict=options.verdict,
        report=options.report,
    )
    verdict = job.run()
    print(announcement(verdict, job.report, job.shared), file=sys.stderr, flush=True)


def _command() -> List[str]:
    """Words of the command that started the run; none where a person started this program."""
    try:
        words = json.loads(os.environ.get(COMMAND_VARIABLE, "[]"))
    except ValueError:
        return []
    return [str(word) for word in words] if isinstance(words, list) else []


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
