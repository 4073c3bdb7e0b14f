"""A comparison of runs as a page, and as text for a terminal."""

from __future__ import annotations

from typing import List

import stdc
from stdc.report.html import environment, style_sheet
from stdc.results.comparison import Comparison, Row, Score
from stdc.results.formatting import NONE

COMPARE = "compare.html"


def as_text(comparison: Comparison) -> str:
    """The comparison for a terminal."""
    blocks = [
        ("recipe, where it differs", comparison.recipe or [("", ["no difference"] * len(comparison.labels))]),
        ("data", comparison.data),
        ("weights", comparison.weights),
        (f"mIoU and IoU of the final weights, %; {comparison.images}", _score_texts(comparison)),
        ("speed", comparison.speed),
    ]
    names = max(len(name) for _, rows in blocks for name, _ in rows)
    widths = [
        max(len(label), *(len(texts[place]) for _, rows in blocks for _, texts in rows))
        for place, label in enumerate(comparison.labels)
    ]
    lines = [" " * names + "  " + "  ".join(label.rjust(width) for label, width in zip(comparison.labels, widths))]
    for title, rows in blocks:
        lines += ["", title]
        for name, texts in rows:
            lines.append(f"{name:<{names}}  " + "  ".join(text.rjust(width) for text, width in zip(texts, widths)))
    return "\n".join(line.rstrip() for line in lines)


def _score_texts(comparison: Comparison) -> List[Row]:
    return [(name, [score_text(score) for score in scores]) for name, scores in comparison.scores]


def score_text(score: Score) -> str:
    """One score: mean, spread over the seeds, difference to the first run; `*` where images do not explain it."""
    if score.mean is None:
        return NONE
    text = f"{score.mean:.2f}"
    if score.low != score.high:
        text += f" ({score.low:.2f} to {score.high:.2f})"
    if score.difference is not None:
        text += f" {score.difference:+.2f}"
    if score.interval is not None:
        text += f" [{score.interval[0]:+.2f} {score.interval[1]:+.2f}]{'*' if score.certain else ''}"
    return text


def render(comparison: Comparison) -> str:
    """The comparison as one HTML page without script or network; it may be shared."""
    template = environment(True).get_template(COMPARE)
    return template.render(style=style_sheet(), version=stdc.__version__, comparison=comparison)
