"""The results of the campaign: one JSON per training, read strictly, and the table made of them.

Cells hold mean ± standard deviation over the seeds, and the value of each seed.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

#: Key in files: words in the table.
SIDES = {
    "ours": "this code",
    "paddleseg": "PaddleSeg 2.7.0, kernel of its detail loss as drawn",
    "paddleseg-fixed": "PaddleSeg 2.7.0, kernel 0.6, 0.3, 0.1",
    "paddleseg-reordered": "PaddleSeg 2.7.0, kernel 0.6, 0.3, 0.1, another order of the images for each seed",
}
#: Sides of the campaign when none are named; the others answer single questions.
DEFAULT_SIDES = ("ours", "paddleseg", "paddleseg-fixed")
FIGURES = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}

#: What this code and PaddleSeg's side call the loss of the main head.
_MAIN_LOSS = ("ohem", "main")
#: Share of the training whose losses are averaged for the table.
_LAST_SHARE = 1 / 3


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

    @property
    def last_loss(self) -> float:
        """Mean loss of the main head over the last third of the steps; NaN where no step of it was kept."""
        first = (1 - _LAST_SHARE) * self.job["iterations"]
        values = [
            value
            for line in self.losses
            if line["iteration"] > first
            for name, value in line.items()
            if name in _MAIN_LOSS
        ]
        return statistics.mean(values) if values else math.nan


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


class Quantity(NamedTuple):
    """What the table shows of each training.

    Attributes:
        title: of its column.
        of: its value.
        factor, digits, unit: how it is written; the unit is that of a difference.
    """

    title: str
    of: Callable[[Result], float]
    factor: float = 100.0
    digits: int = 1
    unit: str = " points"


QUANTITIES = (
    *(Quantity(f"{words}, %", lambda one, key=key: one.figures[key]) for key, words in FIGURES.items()),  # type: ignore
    Quantity("loss of the main head, last third of the steps", lambda one: one.last_loss, 1.0, 3, ""),
)


def mean_and_spread(values: Sequence[float]) -> Tuple[float, float]:
    """Mean and standard deviation of a sample; the deviation of a single value is NaN."""
    spread = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan
    return statistics.mean(values), spread


def standardized_gap(some: Sequence[float], others: Sequence[float]) -> float:
    """Difference of two means over its standard error (Welch); NaN where either has a single value."""
    (mean, deviation), (other_mean, other_deviation) = mean_and_spread(some), mean_and_spread(others)
    error = math.sqrt(deviation**2 / len(some) + other_deviation**2 / len(others))
    return (mean - other_mean) / error if error else math.nan


def table(found: Sequence[Result]) -> str:
    """Markdown: one row per side, then how far the sides lie apart."""
    by_side = {side: sorted((one for one in found if one.side == side), key=lambda one: one.seed) for side in SIDES}
    by_side = {side: results for side, results in by_side.items() if results}
    titles = ["training", "seeds", *(one.title for one in QUANTITIES)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for side, results in by_side.items():
        cells = [_cell([one.of(result) for result in results], one) for one in QUANTITIES]
        lines.append(f"| {SIDES[side]} | {len(results)} | {' | '.join(cells)} |")
    for side in by_side:
        if side == "ours" or "ours" not in by_side:
            continue
        lines += ["", f"{SIDES['ours']} less {SIDES[side]}:", ""]
        for one in QUANTITIES:
            mine, others = ([one.of(result) for result in by_side[key]] for key in ("ours", side))
            gap = one.factor * (statistics.mean(mine) - statistics.mean(others))
            distance = f"{standardized_gap(mine, others):+.1f} standard errors"
            lines.append(f"- {one.title.split(',')[0]}: {gap:+.{one.digits}f}{one.unit}, {distance}")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], quantity: Quantity) -> str:
    """Mean, standard deviation, and each value."""
    mean, deviation, *each = (
        f"{quantity.factor * value:.{quantity.digits}f}" for value in (*mean_and_spread(values), *values)
    )
    return f"{mean} ± {deviation} ({', '.join(each)})"
