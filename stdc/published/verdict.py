"""Is the published figure reproduced?

A figure is compared only with one of the same data, network, evaluation protocol and training recipe; anything else is
NOT COMPARABLE, with the reasons. Of a comparable figure, both values rounded to hundredths of a point:

* REPRODUCED: the run reaches the published value;
* WITHIN NOISE: below it by no more than the tolerance, which is what training again with nothing changed moves it by;
* BELOW: further below.

Pure functions: the same inputs give the same verdict.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from stdc import recipe
from stdc.published.reference import Figure, Reference, load_reference
from stdc.units import size_text

__all__ = ["Evidence", "Seed", "judge", "load_reference"]

REPRODUCED = "REPRODUCED"
WITHIN_NOISE = "WITHIN NOISE"
BELOW = "BELOW"
NOT_COMPARABLE = "NOT COMPARABLE"

#: From the least favorable to the most.
_ORDER = (BELOW, WITHIN_NOISE, REPRODUCED)

#: What tells protocols apart: scales in ascending order, and mirroring.
_Key = Tuple[Tuple[float, ...], bool]

#: Frames of the official splits (cityscapes-dataset.com, "Dataset overview").
TRAIN_FRAMES = 2975
VAL_FRAMES = 500

#: Recipe keys that decide speed or the last bits, not what is learnt.
_KERNEL_KEYS = ("cudnn_exhaustive_search", "cudnn_batchnorm_spatial_persistent", "deterministic")

#: Keys of the recipe that a published figure states for itself.
_CLAIMED_KEYS = ("preset", "iterations", "global_batch", "crop_height", "crop_width")


@dataclasses.dataclass(frozen=True)
class Seed:
    """What evaluation says of one trained seed: `metrics.json`, and `metrics_best.json` where there is one."""

    seed: int
    metrics: Mapping[str, Any]
    best: Optional[Mapping[str, Any]] = None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything a verdict is made from.

    Args:
        name: the configuration's name.
        dataset_kind: "synthetic", "folder" or "archives".
        manifest: `manifest.json` of the dataset check.
        model, train: these sections of the configuration.
        data: this section, or an empty mapping where it is not known.
        seeds: at least one.
    """

    name: str
    dataset_kind: str
    manifest: Mapping[str, Any]
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    data: Mapping[str, Any]
    seeds: Sequence[Seed]


def judge(evidence: Evidence, reference: Reference) -> Dict[str, Any]:
    """The content of `verdict.json`.

    mIoU and differences are in percent and points. `verdict` is the least favorable one among comparable figures;
    `decisive` names the figure it comes from, or the nearest one where none is comparable.

    Raises:
        ValueError: no seed.
    """
    if not evidence.seeds:
        raise ValueError("judge: no seed")
    comparisons = [_compare(evidence, figure, reference) for figure in reference.figures]
    comparable = [row for row in comparisons if row["verdict"] != NOT_COMPARABLE]
    if comparable:
        decisive = min(comparable, key=lambda row: (_ORDER.index(row["verdict"]), row["difference_points"]))
        verdict, reasons = decisive["verdict"], []
    else:
        decisive = _nearest(comparisons, evidence)
        verdict, reasons = NOT_COMPARABLE, decisive["reasons"]
    measured = _measured(evidence)
    return {
        "format": 1,
        "name": evidence.name,
        "verdict": verdict,
        "line": _line(verdict, decisive, measured[0], reasons),
        "reasons": reasons,
        "caveats": _caveats(evidence),
        "decisive": decisive["id"],
        "compared": len(comparable),
        "comparisons": comparisons,
        "selected": _selected(evidence),
        "measured": measured,
        "seeds": [seed.seed for seed in evidence.seeds],
        "initialization": _initialization(evidence),
        "tolerance_points": reference.tolerance_points,
        "unit": "percent",
    }


def _compare(evidence: Evidence, figure: Figure, reference: Reference) -> Dict[str, Any]:
    weights = "best" if figure.weights == "best" and _has_best(evidence) else "final"
    summary = _spread_over_seeds(evidence, weights, _scales_key(figure.protocol.scales, figure.protocol.flip))
    reasons = _reasons(evidence, figure)
    row: Dict[str, Any] = {
        "id": figure.id,
        "title": reference.sources[figure.source].title,
        "url": reference.sources[figure.source].url,
        "framework": figure.framework,
        "backbone": figure.backbone,
        "preset": figure.recipe.preset,
        "protocol": {
            "scales": list(figure.protocol.scales),
            "flip": figure.protocol.flip,
            "size": list(figure.protocol.size),
        },
        "published": figure.value,
        "published_weights": figure.weights,
        "tolerance": figure.tolerance_points,
        "weights": weights,
        "measured": summary["mean"] if summary else None,
        "measured_min": summary["min"] if summary else None,
        "measured_max": summary["max"] if summary else None,
        "difference_points": None,
        "verdict": NOT_COMPARABLE,
        "reasons": reasons,
        "notes": list(figure.notes),
        "ever_comparable": figure.never_compared is None,
    }
    if summary is None and not reasons:
        reasons.append(f"no mIoU of the {weights} weights of every seed at this protocol")
    if summary and not reasons:
        difference = _hundredths(summary["mean"]) - _hundredths(figure.value)
        row["difference_points"] = difference / 100
        row["verdict"] = _grade(difference, _hundredths(figure.tolerance_points))
    return row


def _grade(difference: int, tolerance: int) -> str:
    """Both in hundredths of a point."""
    if difference >= 0:
        return REPRODUCED
    return WITHIN_NOISE if difference >= -tolerance else BELOW


def _hundredths(percent: float) -> int:
    return round(percent * 100)


def _nearest(comparisons: Sequence[Dict[str, Any]], evidence: Evidence) -> Dict[str, Any]:
    """The figure that least is missing to: of the same recipe family if there is one, then the one with fewest reasons.

    The first of equals, which in the table is the figure this project sets out to reproduce.
    """
    return min(
        comparisons,
        key=lambda row: (
            not row["ever_comparable"],
            row["preset"] != evidence.train.get("preset"),
            len(row["reasons"]),
        ),
    )


# ---- reasons against a comparison


def _reasons(evidence: Evidence, figure: Figure) -> List[str]:
    reasons = [*_data_reasons(evidence), *_model_reasons(evidence, figure)]
    reasons += _protocol_reasons(evidence, figure)
    reasons += [figure.never_compared] if figure.never_compared else _recipe_reasons(evidence, figure)
    return reasons


def _data_reasons(evidence: Evidence) -> List[str]:
    if evidence.dataset_kind == "synthetic":
        images = evidence.seeds[0].metrics.get("images")
        return [f"evaluated on {images} generated images, not on the {VAL_FRAMES} validation images of Cityscapes"]
    reasons = []
    frames = {split: _frames(evidence.manifest, split) for split in ("train", "val")}
    if frames != {"train": TRAIN_FRAMES, "val": VAL_FRAMES}:
        reasons.append(
            f"the dataset is not the full Cityscapes: {frames['train']} training and {frames['val']} validation frames "
            f"instead of {TRAIN_FRAMES} and {VAL_FRAMES}"
        )
    elif evidence.manifest.get("expected") != "cityscapes":
        reasons.append("the dataset was not checked against the official counts by city (set data.expect: cityscapes)")
    subset = evidence.data.get("subset") or {}
    if subset.get("train") is not None:
        reasons.append(f"trained on a subset of {subset['train']} frames (data.subset.train)")
    for images in sorted({int(metrics.get("images", 0)) for metrics in _all_metrics(evidence)} - {VAL_FRAMES}):
        if frames["val"] == VAL_FRAMES:
            reasons.append(f"evaluated on {images} of {VAL_FRAMES} validation images")
    absent = sorted(
        {name for metrics in _all_metrics(evidence) for name, value in _class_iou(metrics).items() if value is None}
    )
    if absent:
        reasons.append(f"the mean leaves out classes that do not occur: {', '.join(absent)}")
    return reasons


def _model_reasons(evidence: Evidence, figure: Figure) -> List[str]:
    reasons = []
    backbone = evidence.model.get("backbone")
    if backbone != figure.backbone:
        reasons.append(f"another network: {backbone} here, {figure.backbone} published")
    # The authors' torch code counts the padding at image borders, PaddleSeg does not.
    counted = bool(evidence.model.get("pool_counts_padding", False))
    if not figure.never_compared and counted != (figure.recipe.preset == "authors"):
        reasons.append(
            "average pooling at image borders differs: model.pool_counts_padding is "
            f"{str(counted).lower()}, published with {str(not counted).lower()}"
        )
    given = _pretrained(evidence) is not None
    if figure.recipe.pretrained and not given:
        reasons.append("the backbone started from random weights, the published one from ImageNet weights")
    elif given and not figure.recipe.pretrained:
        reasons.append("the backbone started from given weights, the published one from random weights")
    return reasons


def _protocol_reasons(evidence: Evidence, figure: Figure) -> List[str]:
    wanted = figure.protocol
    found = [_at(seed.metrics, _scales_key(wanted.scales, wanted.flip)) for seed in evidence.seeds]
    if any(entry is None for entry in found):
        return [
            f"not evaluated at the published protocol: {_protocol_text(wanted.scales, wanted.flip)}"
            f"{'' if wanted.flip else ', no flip'}"
        ]
    reasons = []
    for protocol in (entry["protocol"] for entry in found if entry is not None):
        size = protocol.get("size")
        if evidence.dataset_kind != "synthetic" and (size is None or tuple(size) != wanted.size):
            reasons.append(f"labels of {size_text(size)} pixels, {size_text(wanted.size)} published")
        precision = protocol.get("precision")
        if wanted.precision and precision and precision != wanted.precision:
            reasons.append(f"evaluated in {precision}, published in {wanted.precision}")
    return sorted(set(reasons))


def _recipe_reasons(evidence: Evidence, figure: Figure) -> List[str]:
    claim = figure.recipe
    resolved = recipe.resolve(evidence.train)
    ours = resolved.as_dict()
    reasons = []
    if resolved.preset != claim.preset:
        reasons.append(f"another recipe: train.preset {resolved.preset}, published with {claim.preset}")
    if resolved.schedule.iterations != claim.iterations:
        reasons.append(f"{resolved.schedule.iterations} iterations instead of {claim.iterations}")
    if resolved.schedule.global_batch != claim.global_batch:
        reasons.append(
            f"{resolved.schedule.global_batch} images a step instead of {claim.global_batch} (train.global_batch)"
        )
    crop = (resolved.augmentation.crop_height, resolved.augmentation.crop_width)
    if crop != claim.crop:
        reasons.append(f"crops of {size_text(crop)} instead of {size_text(claim.crop)}")
    if resolved.preset == claim.preset:
        preset = recipe.resolve({**_claimed(evidence.train), "preset": resolved.preset}).as_dict()
        for key, value in ours.items():
            if key not in _KERNEL_KEYS and key not in _CLAIMED_KEYS and value != preset[key]:
                reasons.append(f"train.{key}: {value} here, {preset[key]} in the preset")
    return reasons


def _claimed(train: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: train[key] for key in _CLAIMED_KEYS}


# ---- what was measured


def _measured(evidence: Evidence) -> List[Dict[str, Any]]:
    """A row a protocol, in the order of the configuration; the first is the main one."""
    rows = []
    for entry in _protocols(evidence.seeds[0].metrics):
        protocol = entry["protocol"]
        row: Dict[str, Any] = {
            "name": protocol.get("name"),
            "scales": protocol.get("scales"),
            "flip": protocol.get("flip"),
            "size": protocol.get("size"),
            "images": entry.get("images"),
        }
        for weights in ("final", "best"):
            row[weights] = _spread_over_seeds(evidence, weights, _key(protocol))
        rows.append(row)
    return rows


def _spread_over_seeds(evidence: Evidence, weights: str, key: _Key) -> Optional[Dict[str, Any]]:
    """mIoU in percent at one protocol, or None where a seed has none."""
    values = []
    for seed in evidence.seeds:
        metrics = seed.metrics if weights == "final" else seed.best
        entry = _at(metrics, key) if metrics is not None else None
        if entry is None or entry.get("miou") is None:
            return None
        values.append(100 * float(entry["miou"]))
    return _spread(values)


def _spread(values: Sequence[float]) -> Dict[str, Any]:
    return {
        "mean": round(sum(values) / len(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "seeds": [round(value, 4) for value in values],
    }


def _protocols(metrics: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return metrics.get("protocols") or [metrics]


def _at(metrics: Mapping[str, Any], key: _Key) -> Optional[Mapping[str, Any]]:
    """What was measured at one protocol."""
    return next((entry for entry in _protocols(metrics) if _key(entry["protocol"]) == key), None)


def _key(protocol: Mapping[str, Any]) -> _Key:
    return _scales_key(protocol.get("scales") or (), bool(protocol.get("flip")))


def _scales_key(scales: Sequence[float], flip: bool) -> _Key:
    """The order in which scales are averaged does not matter."""
    return tuple(sorted(float(scale) for scale in scales)), flip


def _selected(evidence: Evidence) -> Dict[str, str]:
    why = (
        "The final weights are what the recipe ends with; no look at the validation set chose them. They are compared "
        "with every figure whose source does not say that the best weights were taken."
    )
    if _has_best(evidence):
        why += (
            " The best weights were chosen by the same validation images that score them, which flatters: they are "
            "compared only with figures chosen the same way."
        )
    return {"weights": "final", "why": why}


def _initialization(evidence: Evidence) -> Dict[str, Any]:
    pretrained = _pretrained(evidence)
    if pretrained is None:
        return {"kind": "random", "text": "The backbone started from random weights."}
    sha256 = pretrained.get("sha256")
    return {
        "kind": "given",
        "sha256": sha256,
        "text": f"The backbone started from given weights{f' (sha256 {sha256[:12]}…)' if sha256 else ''}; "
        "that they are the published ImageNet weights is the user's word.",
    }


def _caveats(evidence: Evidence) -> List[str]:
    """What a comparison has to be read with, without forbidding it."""
    caveats = [_initialization(evidence)["text"]]
    if evidence.dataset_kind != "synthetic" and evidence.manifest.get("label_source") == "polygons":
        caveats.append("Labels were drawn from polygons; the benchmark scores labelIds images, which differ at edges.")
    if len(evidence.seeds) == 1:
        caveats.append("One seed: the spread between trainings was not measured here.")
    return caveats


def _line(verdict: str, row: Mapping[str, Any], main: Mapping[str, Any], reasons: Sequence[str]) -> str:
    """One line for a terminal."""
    published = f"{row['published']:.2f} % published ({row['title']})"
    if verdict == NOT_COMPARABLE:
        best = f" with the final weights, {_spread_text(main['best'])} with the best" if main["best"] else ""
        found = f"{verdict}: val mIoU {_spread_text(main['final'])}{best}"
        return f"{found}; nearest is {published}, but: {'; '.join(reasons)}"
    measured = {"mean": row["measured"], "min": row["measured_min"], "max": row["measured_max"]}
    told = f"{row['weights']} weights, {_protocol_text(row['protocol']['scales'], row['protocol']['flip'])}"
    return (
        f"{verdict}: val mIoU {_spread_text(measured, told)} against {published}: "
        f"{row['difference_points']:+.2f} points, tolerance {row['tolerance']:g}"
    )


def _spread_text(spread: Optional[Mapping[str, Any]], told: str = "") -> str:
    if spread is None:
        return "unknown"
    seeds = f"mean of the seeds, {spread['min']:.2f} to {spread['max']:.2f}" if spread["min"] != spread["max"] else ""
    details = "; ".join(text for text in (seeds, told) if text)
    return f"{spread['mean']:.2f} %{f' ({details})' if details else ''}"


def _protocol_text(scales: Sequence[float], flip: bool) -> str:
    return f"scale {', '.join(f'{scale:g}' for scale in scales)}{', flip' if flip else ''}"


def _all_metrics(evidence: Evidence) -> List[Mapping[str, Any]]:
    return [metrics for seed in evidence.seeds for metrics in (seed.metrics, seed.best) if metrics is not None]


def _has_best(evidence: Evidence) -> bool:
    return all(seed.best is not None for seed in evidence.seeds)


def _pretrained(evidence: Evidence) -> Optional[Mapping[str, Any]]:
    pretrained = evidence.model.get("pretrained") or {}
    return pretrained if pretrained.get("source") is not None else None


def _class_iou(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    return metrics.get("class_iou") or {}


def _frames(manifest: Mapping[str, Any], split: str) -> int:
    return int(((manifest.get("splits") or {}).get(split) or {}).get("frames", 0))
