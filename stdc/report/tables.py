"""The rows of the page's tables."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Sequence

from stdc.data.labels import CATEGORY_NAMES, TRAIN_COLORS, TRAIN_NAMES
from stdc.evaluation.metrics import mean_score
from stdc.published import recipe_diff
from stdc.report.charts import best_evaluation
from stdc.report.confusion import pixel_shares, taken_for
from stdc.results.folder import Results, SeedResult
from stdc.results.segments import training_seconds

#: Above this share of time spent waiting for data, more workers would train faster.
WAIT_WARNING = 0.10

#: Number of the worst frames that are listed.
WORST_FRAMES = 10


def class_rows(results: Results) -> List[Dict[str, Any]]:
    """One row per class. IoU are means over the seeds; pixel shares and mistakes are those of the first seed."""
    first = results.seeds[0]
    names = list(first.metrics["class_iou"])
    confusion = first.metrics["confusion"]
    shares = pixel_shares(confusion)
    colors = dict(zip(TRAIN_NAMES, TRAIN_COLORS.tolist()))
    rows = []
    for index, name in enumerate(names):
        mistaken = taken_for(confusion[index], index)
        rows.append(
            {
                "name": name,
                "color": "#{:02x}{:02x}{:02x}".format(*colors.get(name, (128, 128, 128))),
                "share": shares[index],
                "final": over_seeds(results, "metrics", "class_iou", name),
                "best": over_seeds(results, "best", "class_iou", name),
                "iiou": over_seeds(results, "metrics", "iiou", "class_iiou", name),
                "taken_for": names[mistaken[0]] if mistaken else None,
                "taken_share": mistaken[1] if mistaken else None,
            }
        )
    return rows


def category_rows(results: Results) -> List[Dict[str, Any]]:
    """One row per category, in the official order; means over the seeds."""
    return [
        {
            "name": name,
            "final": over_seeds(results, "metrics", "category_iou", name),
            "best": over_seeds(results, "best", "category_iou", name),
            "iiou": over_seeds(results, "metrics", "iiou", "category_iiou", name),
        }
        for name in CATEGORY_NAMES
        if name in (results.seeds[0].metrics.get("category_iou") or {})
    ]


def seed_rows(results: Results) -> List[Dict[str, Any]]:
    """One row per seed, and for several one with their mean."""
    rows = [_seed_row(seed) for seed in results.seeds]
    if len(rows) > 1:
        mean = {key: mean_score([row[key] for row in rows]) for key in rows[0] if key not in ("seed", "iteration")}
        rows.append({**mean, "seed": "mean", "iteration": None})
    return rows


def _seed_row(seed: SeedResult) -> Dict[str, Any]:
    best = best_evaluation(seed)
    return {
        "seed": seed.seed,
        "final": seed.metrics["miou"],
        "best": (seed.best or {}).get("miou"),
        # The evaluations during training choose the best weights, so this is the iteration they are of.
        "iteration": best[0] if best and seed.best else None,
        "category": mean_score(list((seed.metrics.get("category_iou") or {}).values())),
        "accuracy": seed.metrics.get("pixel_accuracy"),
        "seconds": training_seconds(seed.provenance),
        "images_per_s": ((seed.speed or {}).get("training") or {}).get("images_per_s"),
    }


def worst_frames(metrics: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """The frames with the lowest mIoU of their own, the worst first; those without a score are left out."""
    scored = [entry for entry in metrics.get("per_image") or () if entry.get("miou") is not None]
    return sorted(scored, key=lambda entry: (entry["miou"], entry["frame"]))[:WORST_FRAMES]


def speed_rows(results: Results) -> List[Dict[str, Any]]:
    """One row per seed whose speed was measured."""
    rows = []
    for seed in results.seeds:
        if seed.speed is None:
            continue
        training = seed.speed.get("training") or {}
        wait = training.get("reader_wait_share")
        rows.append(
            {
                "seed": seed.seed,
                "training": training,
                "inference": seed.speed.get("inference") or {},
                "waiting": wait is not None and wait > WAIT_WARNING,
            }
        )
    return rows


def recipe_rows(results: Results) -> List[Dict[str, Any]]:
    """This run's recipe as text beside the published ones; a value that differs from its own preset is marked."""
    trained = results.stage.run.recipe
    devices = (results.seeds[0].provenance.get("hardware") or {}).get("devices")
    this, *others = recipe_diff.COLUMNS
    return [
        {
            "label": row.key,
            "this": recipe_diff.value_text(row.values[this]),
            "published": {name: recipe_diff.value_text(row.values[name]) for name in others},
            "deviates": trained.preset in row.differs,
        }
        for row in recipe_diff.compare(trained, devices if isinstance(devices, int) else 1)
    ]


def count_rows(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> List[Dict[str, Any]]:
    """The confusion matrix in numbers: one row per true class."""
    return [{"name": name, "counts": list(counts)} for name, counts in zip(names, confusion)]


def over_seeds(results: Results, document: str, *path: str) -> Optional[float]:
    """Mean of one figure over the seeds; None where a seed has none.

    Args:
        document: `metrics` for the final weights, `best` for the best.
        path: keys down to the figure.
    """
    values = []
    for seed in results.seeds:
        value = getattr(seed, document)
        for key in path:
            value = (value or {}).get(key)
        if value is None:
            return None
        values.append(float(value))
    return math.fsum(values) / len(values)
