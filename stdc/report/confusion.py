"""The confusion matrix as a heat map, and which class is taken for which."""

from __future__ import annotations

from html import escape
from typing import List, Optional, Sequence, Tuple

_CELL, _LEFT, _TOP, _RIGHT, _BOTTOM = 25, 104, 92, 56, 24

#: A share at or above this one is written into its cell as a number.
_SHOWN_SHARE = 0.05


def heat_map(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """The matrix as a picture: a row is a true class, a cell the share of its pixels predicted as the column's class.

    The counts of the cell at the pointer, or at the finger, stand below it.

    Args:
        confusion: pixel counts, shape (C, C); row = truth, column = prediction.
        names: names of the C classes, in the order of the matrix.
    Returns:
        SVG markup.
    """
    size = len(names)
    width, height = _LEFT + size * _CELL + _RIGHT, _TOP + size * _CELL + _BOTTOM
    parts = [f'<svg class="heat" viewBox="0 0 {width} {height}" role="img" aria-label="Confusion matrix">']
    for index, name in enumerate(names):
        middle = (index + 0.5) * _CELL
        x, y = _LEFT + middle + 4, _TOP - 8
        parts.append(
            f'<text class="name" x="{_LEFT - 8}" y="{_TOP + middle + 4}" text-anchor="end">{escape(name)}</text>'
        )
        parts.append(f'<text class="name" x="{x}" y="{y}" transform="rotate(-55 {x} {y})">{escape(name)}</text>')
    for row, counts in enumerate(confusion):
        total = sum(counts)
        for column, count in enumerate(counts):
            share = count / total if total else 0.0
            x, y = _LEFT + column * _CELL, _TOP + row * _CELL
            words = f"{names[row]} predicted as {names[column]}: {100 * share:.2f} % ({count:,} of {total:,} pixels)"
            kind = "hit" if row == column else "miss"
            box = f'x="{x}" y="{y}" width="{_CELL - 1}" height="{_CELL - 1}" rx="2"'
            parts.append(f'<g class="spot"><rect class="cell" {box}/>')
            if count:
                parts.append(f'<rect class="{kind}" {box} fill-opacity="{opacity(share, kind == "hit"):.3f}"/>')
            if share >= _SHOWN_SHARE:
                parts.append(
                    f'<text class="share" x="{x + (_CELL - 1) / 2}" y="{y + 16}" text-anchor="middle">'
                    f"{100 * share:.0f}</text>"
                )
            parts.append(f'<text class="readout" x="{_LEFT}" y="{height - 6}">{escape(words)}</text></g>')
    return "".join(parts) + "</svg>"


def opacity(share: float, is_hit: bool) -> float:
    """How strongly a cell is colored; small mistakes more than in proportion, or nobody would see them."""
    return float(max(share, 0.0002) ** (1.0 if is_hit else 0.6))


def taken_for(counts: Sequence[int], own: int) -> Optional[Tuple[int, float]]:
    """The class that a class is most often mistaken for.

    Args:
        counts: one row of the confusion matrix.
        own: index of the row's class.
    Returns:
        Index of the other class, and the share of the row's pixels predicted as it; None where nothing was mistaken.
    """
    total = sum(counts)
    others: List[Tuple[int, int]] = [(count, -index) for index, count in enumerate(counts) if index != own]
    count, place = max(others, default=(0, 0))
    return (-place, count / total) if total and count else None


def pixel_shares(confusion: Sequence[Sequence[int]]) -> List[float]:
    """Share of each true class in all counted pixels, as fractions; zeros for an empty matrix."""
    totals = [sum(row) for row in confusion]
    whole = sum(totals)
    return [total / whole if whole else 0.0 for total in totals]
