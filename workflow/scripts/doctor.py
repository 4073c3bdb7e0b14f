"""One minute before a long run: check interpreters, Paddle, driver, devices, memory and disk, and try the network out.

Prints one row per check: ok, warning or problem, with the fix. Exit code 2 where there is a problem.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Tuple

import program
from stdc.errors import InputError
from stdc.files import read_json, write_json
from stdc.machine import ranks
from stdc.units import counted

_ROOT = Path(__file__).resolve().parents[2]

log = program.logger("doctor")


def check_packages() -> None:
    """Refuse an interpreter that lacks what the examination itself is made with; the examination looks for the rest."""
    missing = [name for name in ("numpy", "yaml") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"packages: {sys.executable}: No module named {' nor '.join(map(repr, missing))}; run `make setup`, or "
            "name a Python that has the packages of requirements/ by the variable STDC_PYTHON"
        )


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "doctor", __doc__ or "", "--config config/stdc1_cityscapes_1024x512_80k.yaml --dataset /data/cityscapes"
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=_ROOT / "config" / "config.yaml",
        metavar="FILE",
        help="recipe or a stage's JSON",
    )
    # By default what STDC_DEVICE and STDC_DEVICES say, then the recipe and this machine.
    program.add_device_options(parser, several=True, device=None)
    parser.add_argument("--workers", type=int, metavar="N", help="data workers per device; default: the recipe's")
    parser.add_argument("--dataset", metavar="FOLDER", help="default: the recipe's")
    parser.add_argument("--eval-size", type=size, metavar="WxH", help="pixels; default: that of the first image")
    parser.add_argument(
        "--directory",
        type=Path,
        # In the images the run works in /results, which is a mount.
        default=Path(os.environ.get("STDC_DIRECTORY") or ".").resolve(),
        metavar="FOLDER",
        help="where the run will work",
    )
    parser.add_argument("--workflow-python", metavar="FILE", help="interpreter with Snakemake; default: looked for")
    parser.add_argument(
        "--limit-s", type=float, default=120.0, metavar="SECONDS", help="seconds that one trial may take"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings here")
    # For a trial in a process of its own; only this program passes these options.
    for name in ("--probe", "--plan", "--answer"):
        parser.add_argument(name, type=Path if name != "--probe" else str, help=argparse.SUPPRESS)
    return parser


def main(options: argparse.Namespace) -> None:
    check_packages()
    from stdc.doctor import probes
    from stdc.doctor.examination import Settings, examine
    from stdc.doctor.findings import OK, PROBLEM, WARNING, count, document, table
    from stdc.doctor.plan import as_dict, from_dict, make_plan
    from stdc.published.configured_run import configured_run
    from stdc.published.forecast import look_ahead
    from stdc.stages import read_configuration

    if options.probe:
        probes.run(options.probe, from_dict(read_json(options.plan)), options.answer, sys.argv)
        return
    started = time.monotonic()
    config = read_configuration(options.config)
    plan = make_plan(
        config,
        device=options.device,
        devices=options.devices,
        threads=options.threads,
        workers=options.workers,
        dataset=options.dataset,
        folder=str(options.directory),
        eval_size=options.eval_size,
    )
    log(f"looking at {plan.devices} x {plan.device} for {options.config}")
    findings = examine(plan, Settings(str(Path(__file__).resolve()), options.workflow_python, options.limit_s, log))
    for line in table(findings):
        print(line, file=sys.stderr, flush=True)
    outlook = look_ahead(
        configured_run(config), dataset=plan.dataset, folder=options.directory, device=plan.device, devices=plan.devices
    )
    for line in outlook.lines:
        print(f"forecast: {line}", file=sys.stderr, flush=True)
    if options.json:
        write_json(options.json, {"plan": as_dict(plan), "findings": document(findings)})
    rest = [counted(count(findings, WARNING), "warning"), counted(count(findings, PROBLEM), "problem")]
    summary = f"{count(findings, OK)} ok, {', '.join(rest)}"
    if count(findings, PROBLEM):
        names = ", ".join(finding.check for finding in findings if finding.level == PROBLEM)
        raise InputError(f"{summary}: {names}; the table says how to fix each")
    log(f"{summary} in {time.monotonic() - started:.0f} s")


def size(text: str) -> Tuple[int, int]:
    """ "2048x1024" -> (1024, 2048)."""
    width, separator, height = text.partition("x")
    if not (separator and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r}; WIDTHxHEIGHT in pixels is expected, for example 2048x1024")
    return int(height), int(width)


if __name__ == "__main__":
    if ranks.in_rank():
        # Before anything slow: a rank must not outlive its launcher.
        ranks.enter_rank()
    sys.exit(program.run(arguments(), main))
