"""One minute before a long run: check interpreters, Paddle, driver, devices, memory and disk, and try the network out.

Prints a row a check: ok, warning or problem, with the mend. Exit code 2 where there is a problem.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import program
from stdc.errors import InputError
from stdc.files import read_json, write_json
from stdc.machine import ranks

_ROOT = Path(__file__).resolve().parents[2]


def say(line: str) -> None:
    print(f"doctor: {line}", file=sys.stderr, flush=True)


def main(options: argparse.Namespace) -> None:
    from stdc.doctor import facts, probes
    from stdc.doctor.examination import Settings, examine
    from stdc.doctor.findings import OK, PROBLEM, WARNING, count, document, table
    from stdc.doctor.plan import as_dict, default_device, from_dict, make_plan

    if options.probe:
        probes.run(options.probe, from_dict(read_json(options.plan)), options.answer, sys.argv)
        return
    started = time.monotonic()
    config = read_config(options.config)
    hardware = config.get("hardware") or {}
    device = options.device or default_device(config)
    # As the profiles count them, so that the run and this check mean the same devices.
    devices = options.devices or int(os.environ.get("STDC_DEVICES") or 0) or len(facts.device_nodes(device))
    devices = devices or int(hardware.get("devices") or 1)
    plan = make_plan(
        config,
        device=device,
        devices=devices,
        threads=options.threads or int(hardware.get("threads") or 1),
        workers=int(hardware.get("workers", 2)) if options.workers is None else options.workers,
        dataset=options.dataset,
        folder=str(options.directory),
        eval_size=options.eval_size,
    )
    say(f"{options.config.name}, {devices} x {device}, results in {options.directory}")
    settings = Settings(str(Path(__file__).resolve()), options.workflow_python, options.limit_s, say)
    findings = examine(plan, settings)
    for line in table(findings):
        print(line, file=sys.stderr, flush=True)
    summary = f"{count(findings, OK)} ok, {count(findings, WARNING)} warning(s), {count(findings, PROBLEM)} problem(s)"
    if options.json:
        write_json(options.json, {"plan": as_dict(plan), "findings": document(findings)})
    if count(findings, PROBLEM):
        names = ", ".join(finding.check for finding in findings if finding.level == PROBLEM)
        raise InputError(f"{summary}: {names}; the table says how to mend each")
    say(f"{summary} in {time.monotonic() - started:.0f} s")


def read_config(path: Path) -> Dict[str, Any]:
    """A stage's JSON or a recipe's YAML.

    Raises:
        InputError: missing, unreadable, or not a table of sections.
    """
    if path.suffix in (".yaml", ".yml"):
        try:
            import yaml
        except ImportError as error:
            raise InputError(f"{path}: reading a recipe needs PyYAML ({error}); run make setup") from None
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    else:
        config = read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: sections such as train and evaluate are expected, found {type(config).__name__}")
    return config


def size(text: str) -> Tuple[int, int]:
    """ "1024x2048" -> (1024, 2048)."""
    height, separator, width = text.partition("x")
    if not (separator and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r}; HEIGHTxWIDTH in pixels is expected, for example 1024x2048")
    return int(height), int(width)


def arguments() -> argparse.ArgumentParser:
    made = program.parser("doctor", __doc__ or "")
    made.add_argument(
        "--config",
        type=Path,
        default=_ROOT / "config" / "config.yaml",
        metavar="FILE",
        help="recipe or a stage's JSON",
    )
    made.add_argument("--device", choices=("cpu", "gpu", "iluvatar_gpu"), help="default: STDC_DEVICE or the recipe's")
    made.add_argument("--devices", type=int, metavar="N", help="default: STDC_DEVICES, or those in this machine")
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads a process; default: the recipe's")
    made.add_argument("--workers", type=int, metavar="N", help="data workers a device; default: the recipe's")
    made.add_argument("--dataset", metavar="FOLDER", help="default: the recipe's")
    made.add_argument("--eval-size", type=size, metavar="HxW", help="pixels; default: that of the first image")
    made.add_argument(
        "--directory", type=Path, default=default_directory(), metavar="FOLDER", help="where the run will work"
    )
    made.add_argument("--workflow-python", metavar="FILE", help="interpreter with Snakemake; default: looked for")
    made.add_argument("--limit-s", type=float, default=120.0, metavar="S", help="seconds that one trial may take")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the findings here")
    # A trial in a process of its own; started by this program alone.
    for name in ("--probe", "--plan", "--answer"):
        made.add_argument(name, type=Path if name != "--probe" else str, help=argparse.SUPPRESS)
    return made


def default_directory() -> Optional[Path]:
    """In the images the run works in /results, which is a mount."""
    return Path(os.environ.get("STDC_DIRECTORY") or ".").resolve()


if __name__ == "__main__":
    if ranks.in_rank():
        # Before anything slow: a rank must not outlive its launcher.
        ranks.enter_rank()
    sys.exit(program.run(arguments(), main))
