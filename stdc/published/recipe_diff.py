"""This run's recipe beside the published ones: what differs, and what it comes to.

The published ones stand in `reference.yaml`. The mmsegmentation column is for information: a third recipe with figures,
not a preset.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from stdc import recipe
from stdc.published.evidence import TRAIN_FRAMES
from stdc.published.reference import load_reference

#: Keys that name a recipe, or follow from the machine, and so say nothing of what is learned.
_LEFT_OUT = ("preset", "cudnn_exhaustive_search", "cudnn_batchnorm_spatial_persistent", "deterministic")


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        key: a recipe key, or a derived quantity with its unit.
        values: by column; None where a source does not say.
        differs: columns whose value is not this run's.
    """

    key: str
    values: Dict[str, Any]
    differs: List[str]


#: This run, and the recipes of `reference.yaml` in their order.
COLUMNS = ("this run", "paddleseg", "authors", "mmseg")


def compare(trained: recipe.TrainRecipe, devices: int) -> List[Row]:
    """The table for a recipe on a number of devices.

    Raises:
        InputError: its batch has fewer images than there are devices.
    """
    trained.schedule.per_device_batch(devices)
    columns: Dict[str, Dict[str, Any]] = {"this run": {**trained.as_dict(), "devices": devices}}
    for name, published in load_reference().recipes.items():
        whole = recipe.resolve({**published.values, "preset": published.preset}).as_dict() if published.preset else {}
        columns[name] = {**whole, **published.values}
    keys = [key for key in columns["this run"] if key not in _LEFT_OUT]
    rows = [_row(key, {name: values.get(key) for name, values in columns.items()}) for key in keys]
    derived = {name: _derived(values) for name, values in columns.items()}
    return rows + [_row(key, {name: values[key] for name, values in derived.items()}) for key in derived["this run"]]


def _derived(values: Mapping[str, Any]) -> Dict[str, Any]:
    samples = values["iterations"] * values["global_batch"]
    return {
        "images per device and step": values["global_batch"] / values["devices"],
        "samples seen": samples,
        f"epochs of {TRAIN_FRAMES} images": round(samples / TRAIN_FRAMES, 1),
        "learning rate per sample": values["base_lr"] / values["global_batch"],
    }


def _row(key: str, values: Dict[str, Any]) -> Row:
    own = values["this run"]
    differs = [name for name, value in values.items() if value is not None and not _equal(value, own)]
    return Row(key, values, differs)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return abs(left - right) <= 1e-9 * max(abs(left), abs(right))
    return bool(left == right)


def value_text(value: Optional[Any]) -> str:
    """A value as a person writes it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return " ".join(f"{part:g}" for part in value)
    return str(value)


def as_text(rows: Sequence[Row], color: bool) -> str:
    """The table for a terminal; `*` and, with `color`, red mark what differs from this run."""
    cells = [["", *COLUMNS]]
    cells += [
        [row.key, *(value_text(row.values[name]) + ("*" if name in row.differs else "") for name in COLUMNS)]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = []
    for line in cells:
        padded = [cell.ljust(width) for cell, width in zip(line, widths)]
        if color:
            padded = [f"\033[31m{cell}\033[0m" if cell.rstrip().endswith("*") else cell for cell in padded]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for a document; bold marks what differs from this run."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        cells = [
            f"**{value_text(row.values[name])}**" if name in row.differs else value_text(row.values[name])
            for name in COLUMNS
        ]
        lines.append(f"| {row.key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
