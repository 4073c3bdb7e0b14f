"""Before a run: which published figures it will be comparable with, what speaks against the others, what it will cost.

The forecast fills `stdc.published.evidence` from a configuration alone; what it says of a figure then comes from the
function that the verdict asks too. The verdict can only add what nobody knows before: a class that occurs nowhere, or a
picture that stands in the dataset twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from stdc.data import cityscapes
from stdc.published.configured_run import ConfiguredRun
from stdc.published.evidence import TRAIN_FRAMES, VAL_FRAMES, DatasetFacts, EvaluatedProtocol, Evidence
from stdc.published.figures import Reference
from stdc.published.planned_cost import cost_lines, known_speed
from stdc.published.planned_dataset import Dataset, look_at_dataset
from stdc.published.reasons import nearest, protocol_text, rows_of
from stdc.published.reference import load_reference
from stdc.units import counted

#: What `stdc.evaluation` computes in.
_PRECISION = "float32"
#: Reasons against the nearest figure that are enough where a run is about to start.
_BRIEF = 3


def planned_evidence(run: ConfiguredRun, dataset: Dataset, devices: int = 1) -> Evidence:
    """What the verdict will know of a run of this configuration, as far as it is known now.

    Args:
        devices: that the global batch is divided over.
    """
    official = run.expected == "cityscapes"
    frames = dataset.frames
    if official and frames is None and dataset.kind != "synthetic":
        # The dataset check lets nothing else pass.
        frames = {"train": TRAIN_FRAMES, "val": VAL_FRAMES}
    images = run.subset.get("val", (frames or {}).get("val"))
    planned = tuple(
        EvaluatedProtocol(
            name=protocol.name,
            scales=protocol.scales,
            flip=protocol.flip,
            size=cityscapes.IMAGE_SIZE if official else None,
            size_known=official,
            precision=_PRECISION,
            images=() if images is None else (images,),
            backend=run.evaluation.backend,
        )
        for protocol in run.protocols
    )
    return Evidence(
        name=run.name,
        seeds=run.seeds,
        dataset=DatasetFacts(
            kind=dataset.kind,
            expected=run.expected,
            frames=frames,
            train_subset=run.subset.get("train"),
            val_subset=run.subset.get("val"),
        ),
        network=run.network,
        start=run.start,
        recipe=run.recipe,
        micro_batch=run.recipe.schedule.images_per_pass(devices, run.micro_batch),
        evaluations={"final": planned, **({"best": planned} if run.loop.evaluate else {})},
    )


class Outlook(NamedTuple):
    """A forecast, and what it was made from.

    Attributes:
        dataset, evidence: what is planned.
        found: see `forecast`.
        lines: all of it in words, without disk and memory.
    """

    dataset: Dataset
    evidence: Evidence
    found: Dict[str, Any]
    lines: List[str]


def look_ahead(
    run: ConfiguredRun,
    *,
    dataset: Optional[str],
    folder: Path,
    device: str,
    devices: int,
    brief: bool = False,
) -> Outlook:
    """The forecast of a configuration.

    Args:
        dataset: the user's folder; None for a generated one.
        folder: working directory of the run, where finished runs tell a speed.
        device, devices: kind and number of devices.
        brief: see `figure_lines`.
    Raises:
        InputError: there is no such dataset.
    """
    seen = look_at_dataset(run, dataset)
    evidence = planned_evidence(run, seen, devices)
    reference = load_reference()
    found = forecast(evidence, reference)
    speed = known_speed(evidence, folder, device, devices)
    images = f": {seen.frames['train']} training and {seen.frames['val']} validation images" if seen.frames else ""
    lines = [
        f"dataset: {seen.text}{images}",
        *cost_lines(evidence, reference, speed, devices),
        *figure_lines(found, evidence, brief=brief),
    ]
    return Outlook(seen, evidence, found, lines)


def forecast(evidence: Evidence, reference: Reference) -> Dict[str, Any]:
    """The forecast as JSON values.

    Returns:
        {"rows": one per figure, "comparable": ids, "nearest": id of the figure with the fewest obstacles}
    """
    rows = rows_of(evidence, reference)
    comparable = [row["id"] for row in rows if not row["reasons"]]
    return {"rows": rows, "comparable": comparable, "nearest": nearest(rows, evidence)["id"]}


def refusal(found: Mapping[str, Any]) -> Optional[str]:
    """Why a run that must be comparable may not start, with the keys to change; None where it is comparable."""
    if found["comparable"]:
        return None
    row = next(row for row in found["rows"] if row["id"] == found["nearest"])
    lines = [
        "require_comparable is true, and this run would be comparable with no published figure. Nearest is "
        f"{row['published']:.2f} % ({row['title']}); to be compared with it, change:"
    ]
    lines += [f"  {change}" for change in row["changes"]]
    lines += [f"  ({reason})" for reason in row["reasons"]] if not row["changes"] else []
    return "\n".join([*lines, "To run it all the same: require_comparable: false"])


def figure_lines(found: Mapping[str, Any], evidence: Evidence, *, brief: bool = False) -> List[str]:
    """Which figures the run will be comparable with, and what speaks against each of the others.

    Args:
        brief: of the others, tell the nearest with its first reasons, where nothing is comparable, and count the rest.
    """
    own = [row for row in found["rows"] if row["backbone"] == evidence.network.backbone and row["ever_comparable"]]
    comparable = [row for row in own if not row["reasons"]]
    network = f"{evidence.network.backbone.upper()}-Seg"
    lines = [f"comparable with {len(comparable) or 'none'} of {len(own)} published figures of {network}"]
    lines += [f"  {_figure(row)}" for row in comparable]
    others = [row for row in own if row["reasons"]]
    shared = [text for text in others[0]["reasons"] if all(text in row["reasons"] for row in others)] if others else []
    if shared:
        lines.append("against all of them:" if not comparable else "against the others:")
        lines += [f"  - {text}" for text in shared]
    told = [row for row in others if not comparable and row["id"] == found["nearest"]] if brief else others
    for row in told:
        rest = [text for text in row["reasons"] if text not in shared]
        if brief and len(rest) > _BRIEF:
            rest = [*rest[:_BRIEF], f"and {len(rest) - _BRIEF} more"]
        lines.append(f"  {_figure(row)}{': ' if rest else ''}{'; '.join(rest)}")
    if brief:
        left = len(others) - len(told)
        return [*lines, f"{left} more in a dry run (-n), with what speaks against each"] if left else lines
    never: Dict[str, int] = {}
    for row in found["rows"]:
        if row["backbone"] == evidence.network.backbone and not row["ever_comparable"]:
            never[row["reasons"][-1]] = never.get(row["reasons"][-1], 0) + 1
    lines += [f"for information only, {counted(count, 'figure')} of {network}: {text}" for text, count in never.items()]
    foreign = sum(row["backbone"] != evidence.network.backbone for row in found["rows"])
    lines.append(f"of another network: {counted(foreign, 'figure')}")
    return lines


def _figure(row: Mapping[str, Any]) -> str:
    protocol = protocol_text(row["protocol"]["scales"], row["protocol"]["flip"])
    return f"{row['published']:.2f} % {row['title']} ({protocol}; {row['weights']} weights)"
