"""Score predictions of any origin: PNGs of label ids, or in the official colors, against the ground truth of a split.

The integers are those of the official script; frames without a prediction, or with several, are told first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.data.layout import SPLITS, refuse_inside
from stdc.errors import InputError
from stdc.files import write_json
from stdc.machine.cgroup import usable_cpus

log = program.logger("judge_predictions")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "judge_predictions", __doc__ or "", "--predictions predictions --dataset /data/cityscapes --output metrics.json"
    )
    parser.add_argument("--predictions", type=Path, required=True, metavar="FOLDER", help="with <frame>*.png in it")
    parser.add_argument("--dataset", type=Path, required=True, metavar="FOLDER", help="dataset root; only read")
    parser.add_argument("--split", default="val", choices=SPLITS, help="whose frames must be predicted")
    parser.add_argument("--output", type=Path, metavar="FILE", help="figures (JSON), in the form of evaluate's")
    parser.add_argument("--processes", type=int, default=usable_cpus(), metavar="N", help="that read and count")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.evaluation.judge_predictions import ground_truth, judge_predictions, suspicion, table_text
    from stdc.progress import Progress

    if options.output is not None:
        refuse_inside(options.output, options.dataset, "the figures")
        if options.output.is_dir():
            raise InputError(f"--output {options.output}: a folder; name the file to write, such as metrics.json in it")
    progress = Progress("frames", len(ground_truth(options.dataset, options.split)))
    document = judge_predictions(
        options.predictions, options.dataset, options.split, processes=options.processes, progress=progress.step
    )
    progress.finish()
    if options.output is not None:
        write_json(options.output, document)
    print(table_text(document))
    doubt = suspicion(document)
    if doubt is not None:
        log(doubt)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
