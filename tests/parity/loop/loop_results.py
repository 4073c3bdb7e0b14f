"""The results of the campaign: one JSON per training, read strictly, and the table made of them."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

#: Key in files: words in the table.
SIDES = {
    "ours": "this code",
    "paddleseg": "PaddleSeg 2.7.0, kernel of its detail loss as drawn",
    "paddleseg-fixed": "PaddleSeg 2.7.0, kernel 0.6, 0.3, 0.1",
}
FIGURES = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}


class Result(NamedTuple):
    """One finished training.

    Attributes:
        side: key of `SIDES`.
        seed: of the training.
        job: iterations, batch, crop, number of images: what all sides share.
        figures: keys of `FIGURES`, each a fraction.
        losses: means over some steps, each {"iteration", part: value}.
        kernel: fusion kernel of the detail loss; None for this code, which has no other.
    """

    side: str
    seed: int
    job: Dict[str, Any]
    figures: Dict[str, float]
    losses: List[Dict[str, float]]
    kernel: Optional[List[float]]


def read_result(path: Path, side: str, seed: int, job: Dict[str, Any]) -> Optional[Result]:
    """The result that a file holds, or None where there is no file yet.

    Raises:
        ValueError: not a result, or that of another training; names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        document = json.loads(text)
        found = Result(**{name: document[name] for name in Result._fields})
        figures = [float(found.figures[name]) for name in FIGURES]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a result of this campaign ({type(error).__name__}: {error}); remove it"
        ) from None
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in figures):
        raise ValueError(f"{path}: {found.figures} are no fractions; remove it")
    if (found.side, found.seed, found.job) != (side, seed, job):
        raise ValueError(
            f"{path}: of another training ({found.side}, seed {found.seed}, {found.job}); take another --output"
        )
    return found


def mean_and_spread(values: Sequence[float]) -> Tuple[float, float]:
    """Mean and standard deviation of a sample; the deviation of a single value is NaN."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def standardized_gap(some: Sequence[float], others: Sequence[float]) -> float:
    """Difference of two means over its standard error (Welch); NaN where either has a single value."""
    (mean, deviation), (other_mean, other_deviation) = mean_and_spread(some), mean_and_spread(others)
    error = math.sqrt(deviation**2 / len(some) + other_deviation**2 / len(others))
    return (mean - other_mean) / error if error else math.nan


def table(found: Sequence[Result]) -> str:
    """Markdown: one row per side, then how far the sides lie apart."""
    by_side = {side: sorted((one for one in found if one.side == side), key=lambda one: one.seed) for side in SIDES}
    lines = [
        "| training | seeds | mIoU: mean ± deviation (each) | pixel accuracy: mean ± deviation (each) |",
        "|---|---|---|---|",
    ]
    for side, results in by_side.items():
        if not results:
            continue
        cells = [_cell([one.figures[figure] for one in results]) for figure in FIGURES]
        lines.append(f"| {SIDES[side]} | {len(results)} | {' | '.join(cells)} |")
    lines.append("")
    for side in list(SIDES)[1:]:
        for figure, words in FIGURES.items():
            mine, others = ([one.figures[figure] for one in by_side[name]] for name in ("ours", side))
            if not mine or not others:
                continue
            gap = statistics.mean(mine) - statistics.mean(others)
            lines.append(
                f"- {words}, {SIDES['ours']} less {SIDES[side]}: {100 * gap:+.1f} points, "
                f"{standardized_gap(mine, others):+.1f} standard errors"
            )
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    mean, deviation = mean_and_spread(values)
    each = ", ".join(f"{100 * value:.1f}" for value in values)
    return f"{100 * mean:.1f} ± {100 * deviation:.1f} ({each})"
