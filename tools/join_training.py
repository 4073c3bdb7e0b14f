"""Take part in the trainings of a workflow that runs on another node.

Where a launcher starts the same container on every node (an Indexed Job or a PaddleJob of Kubernetes), node 0 runs the
workflow and the others run this. The images' entrypoint.sh does so by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.errors import InputError
from stdc.machine import joining
from stdc.machine.nodes import find_nodes


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("join_training", __doc__ or "", "--runs /results/runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="run folders, on all nodes")
    parser.add_argument("--number", action="store_true", help="print which node this is, 0 for the first, and end")
    parser.add_argument("--over", type=int, metavar="N", help="on node 0: how its workflow ended; the others end too")
    parser.add_argument("--limit", type=float, default=86400.0, metavar="SECONDS", help="longest wait for a training")
    return parser


def main(options: argparse.Namespace) -> None:
    nodes = find_nodes(None, os.environ)
    if options.number:
        if nodes.number == 0:
            joining.begin(options.runs, nodes)
        print(nodes.number)
    elif options.over is not None:
        joining.end(options.runs, nodes, options.over)
    elif nodes.number == 0:
        raise InputError("this is node 0, which runs the workflow; the other nodes join it")
    else:
        sys.exit(joining.follow(options.runs, nodes, program.logger("join_training"), options.limit))


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
