"""Say before a run which published figures it will be comparable with, what speaks against the rest, and what it costs.

Takes a second and opens no image. Exit code 2 where the configuration asks for a comparable run
(`require_comparable: true`) and this one would not be.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Mapping

import program
from stdc.errors import InputError
from stdc.files import read_json, write_json

#: Reasons per figure that are enough where a run is about to start.
_BRIEF = 3
_SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "config.schema.yaml"


def main(options: argparse.Namespace) -> None:
    from stdc.doctor.plan import make_plan
    from stdc.published import forecast
    from stdc.published.reference import load_reference
    from stdc.units import bytes_text

    config = read_config(options.config)
    folder = options.dataset or config.get("dataset")
    dataset = forecast.look_at_dataset(config, folder)
    evidence = forecast.planned_evidence(config, dataset)
    reference = load_reference()
    found = forecast.forecast(evidence, reference)
    plan = make_plan(
        config, folder=str(options.directory), device=options.device, devices=options.devices, dataset=folder
    )
    speed = forecast.known_speed(evidence, options.directory, plan.device, plan.devices)
    counted = dataset.frames or {}
    images = f": {counted['train']} training and {counted['val']} validation images" if counted else ""
    disk = ", ".join(f"{name} {bytes_text(count)}" for name, count in plan.disk_needs().items())
    lines = [
        f"dataset: {dataset.text}{images}",
        *forecast.cost_lines(evidence, reference, speed, plan.devices),
        f"disk: {bytes_text(sum(plan.disk_needs().values()))} ({disk})",
        f"main memory: about {bytes_text(plan.memory_needs())} on {plan.devices} x {plan.device}",
        *forecast.figure_lines(found, evidence, most=_BRIEF if options.brief else None),
    ]
    print("\n".join(f"forecast: {line}" for line in lines), flush=True)
    if options.json:
        write_json(options.json, {"name": evidence.name, "dataset": dataset._asdict(), **found})
    refused = forecast.refusal(found) if config.get("require_comparable") else None
    if refused:
        raise InputError(refused)


def read_config(path: Path) -> Dict[str, Any]:
    """A recipe with the schema's defaults filled in; from standard input comes a whole configuration as JSON.

    Raises:
        InputError: not readable.
    """
    import yaml

    try:
        if str(path) == "-":
            return dict(json.load(sys.stdin))
        if path.suffix in (".yaml", ".yml"):
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        else:
            config = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not readable ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: a recipe is expected, found {type(config).__name__}")
    return dict(with_defaults(config, yaml.safe_load(_SCHEMA.read_text(encoding="utf-8"))))


def with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """A copy in which each key that is left out has the schema's default."""
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    parts: Mapping[str, Any] = schema.get("properties", {})
    defaults = {key: part["default"] for key, part in parts.items() if "default" in part}
    return {key: with_defaults(item, parts.get(key, {})) for key, item in {**defaults, **value}.items()}


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("forecast", __doc__ or "")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="a recipe; - reads JSON from stdin")
    parser.add_argument("--dataset", metavar="FOLDER", help="default: the recipe's own")
    parser.add_argument("--device", help="default: STDC_DEVICE, or the recipe's")
    parser.add_argument("--devices", type=int, metavar="N", help="default: STDC_DEVICES, or those in this machine")
    parser.add_argument("--directory", type=Path, default=Path(), metavar="FOLDER", help="where the run will work")
    parser.add_argument("--brief", action="store_true", help=f"at most {_BRIEF} reasons per figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the forecast here")
    return parser


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
