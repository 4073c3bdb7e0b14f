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
from stdc.files import write_json
from stdc.machine.kinds import KINDS

_SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "config.schema.yaml"


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("forecast", __doc__ or "", "--config config/config.yaml")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="a recipe; - reads JSON from stdin")
    parser.add_argument("--dataset", metavar="FOLDER", help="default: the recipe's own")
    parser.add_argument("--device", choices=KINDS, help="default: STDC_DEVICE, or the recipe's")
    parser.add_argument("--devices", type=int, metavar="N", help="default: STDC_DEVICES, or those in this machine")
    parser.add_argument("--directory", type=Path, default=Path(), metavar="FOLDER", help="where the run will work")
    parser.add_argument("--brief", action="store_true", help="of figures that are out of reach, only the nearest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the forecast here")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.doctor.plan import make_plan
    from stdc.published import forecast
    from stdc.published.configured_run import configured_run
    from stdc.units import bytes_text

    config = configuration(options.config)
    folder = options.dataset or config.get("dataset")
    plan = make_plan(
        config, folder=str(options.directory), device=options.device, devices=options.devices, dataset=folder
    )
    outlook = forecast.look_ahead(
        configured_run(config),
        dataset=folder,
        folder=options.directory,
        device=plan.device,
        devices=plan.devices,
        brief=options.brief,
    )
    needs = plan.disk_needs()
    if folder is None and outlook.dataset.kind != "synthetic":
        # Nothing is known of a dataset that is still to be named.
        del needs["dataset and labels"]
    disk = ", ".join(f"{name} {bytes_text(count)}" for name, count in needs.items())
    lines = [
        *outlook.lines,
        f"disk: {bytes_text(sum(needs.values()))} ({disk})",
        f"main memory: about {bytes_text(plan.memory_needs())} on {plan.devices} x {plan.device}",
    ]
    print("\n".join(f"forecast: {line}" for line in lines), flush=True)
    if options.json:
        write_json(options.json, {"name": outlook.evidence.name, "dataset": outlook.dataset._asdict(), **outlook.found})
    refused = forecast.refusal(outlook.found) if config.get("require_comparable") else None
    if refused:
        raise InputError(refused)


def configuration(path: Path) -> Dict[str, Any]:
    """A recipe with the schema's defaults filled in; from standard input comes a whole configuration as JSON.

    Raises:
        InputError: not readable.
    """
    if str(path) == "-":
        try:
            return dict(json.load(sys.stdin))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"standard input: not a configuration as JSON ({error})") from None
    import yaml

    from stdc.stages import read_configuration

    return dict(with_defaults(read_configuration(path), yaml.safe_load(_SCHEMA.read_text(encoding="utf-8"))))


def with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """A copy in which each key that is left out has the schema's default."""
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    parts: Mapping[str, Any] = schema.get("properties", {})
    defaults = {key: part["default"] for key, part in parts.items() if "default" in part}
    return {key: with_defaults(item, parts.get(key, {})) for key, item in {**defaults, **value}.items()}


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
