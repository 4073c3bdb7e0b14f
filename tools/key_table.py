"""Write the table of keys in config/README.md from the schema."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import yaml

import program
from stdc.errors import InputError
from stdc.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "config" / "README.md"
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
MARKER = "<!-- Below: written by `make docs` from workflow/schemas/config.schema.yaml -->\n"


def keys(schema: Dict[str, Any], path: str = "") -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Every key that holds a value, as (dotted name, its part of the schema)."""
    for name, part in schema.get("properties", {}).items():
        dotted = f"{path}.{name}" if path else name
        if part["type"] == "object":
            yield from keys(part, dotted)
        else:
            yield dotted, part
            if "properties" in part.get("items", {}):
                yield from keys(part["items"], f"{dotted}[]")


def values(part: Dict[str, Any]) -> str:
    """What a key may hold."""
    if "enum" in part:
        return ", ".join("null" if item is None else f"`{item}`" for item in part["enum"])
    types = [part["type"]] if isinstance(part["type"], str) else part["type"]
    text = " or ".join(types)
    if "array" in types and "type" in part["items"] and part["items"]["type"] != "object":
        text += f" of {part['items']['type']}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = {**part.get("items", {}), **part}
    ranges = [f"{sign} {limits[key]}" for key, sign in signs.items() if key in limits]
    return ", ".join([text, *ranges])


def table(schema: Dict[str, Any]) -> str:
    """The Markdown table of all keys of a schema, with its header."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, part in keys(schema):
        default = f"`{json.dumps(part['default'])}`" if "default" in part else "needed"
        meaning = part["description"]
        if "unit" in part:
            meaning += f" Unit: {part['unit']}."
        if "source" in part:
            meaning += f" Source: {part['source']}."
        lines.append(f"| `{name}` | {values(part)} | {default} | {meaning} |".replace("\n", " "))
    return "\n".join(lines) + "\n"


def arguments() -> argparse.ArgumentParser:
    parser = program.parser("key_table", __doc__ or "", "--check")
    parser.add_argument("--check", action="store_true", help="only compare the page with the schema")
    return parser


def main(options: argparse.Namespace) -> None:
    page = PAGE.read_text(encoding="utf-8")
    head, marker, _ = page.partition(MARKER)
    assert marker, f"{PAGE}: the marker line is gone"
    wanted = head + MARKER + "\n" + table(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
    if page == wanted:
        return
    if options.check:
        raise InputError(f"{PAGE}: does not agree with the schema; run `make docs`")
    write_text(PAGE, wanted)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
