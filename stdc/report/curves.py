"""Line charts as inline SVG, colored by the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from html import escape
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

Point = Tuple[float, float]

WIDTH, HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 34

#: A chart is about this many pixels wide; with more points, neighbors are averaged.
MAX_POINTS = 240


class Series(NamedTuple):
    """One line. `style` is a class of the style sheet: `c0` to `c3`, with ` dots` to mark each point."""

    name: str
    points: Sequence[Point]
    style: str


def line_chart(
    title: str,
    series: Sequence[Series],
    text: Callable[[float], str] = "{:g}".format,
    from_zero: bool = False,
    x_name: str = "iteration",
) -> str:
    """A chart of lines over iterations, with each value in a tooltip.

    Args:
        title: read aloud by screen readers.
        text: writes a value of the vertical axis.
        from_zero: let the vertical axis start at 0.
    Returns:
        SVG markup; empty where no series has a point.
    """
    drawn = [line._replace(points=thinned(line.points)) for line in series if line.points]
    if not drawn:
        return ""
    values = [y for line in drawn for _, y in line.points]
    xs = [x for line in drawn for x, _ in line.points]
    y_ticks = ticks(min(0.0, *values) if from_zero else min(values), max(values), 5)
    x_low, x_high = (0, max(xs)) if max(xs) > 0 else (min(xs), max(xs) + 1)
    x_ticks = [tick for tick in ticks(x_low, x_high, 5) if tick <= x_high]

    def place(x: float, y: float) -> Point:
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        y = place(x_low, tick)[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text(tick))}</text>'
        )
    for tick in x_ticks:
        x = place(tick, y_ticks[0])[0]
        anchor = "end" if x > WIDTH - 30 else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{tick:,g}</text>')
    for line in drawn:
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line.points)
        parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
        if "dots" in line.style or len(line.points) == 1:
            for point in line.points:
                x, y = place(*point)
                parts.append(f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>')
    parts += _tooltips(drawn, text, x_name, lambda x: place(x, y_ticks[0])[0])
    return "".join(parts) + "</svg>"


def _tooltips(
    drawn: Sequence[Series], text: Callable[[float], str], x_name: str, across: Callable[[float], float]
) -> List[str]:
    """One invisible strip per iteration that shows its values under the pointer; needs no script."""
    by_x: Dict[float, List[str]] = {}
    for line in drawn:
        for x, y in line.points:
            by_x.setdefault(x, []).append(f"{line.name} {text(y)}")
    places = [across(x) for x in sorted(by_x)]
    edges = [_LEFT, *((a + b) / 2 for a, b in zip(places, places[1:])), WIDTH - _RIGHT]
    strips = []
    for x, left, right in zip(sorted(by_x), edges, edges[1:]):
        words = escape(f"{x_name} {x:,.0f}: " + ", ".join(by_x[x]))
        strips.append(
            f'<rect class="strip" x="{left:.1f}" width="{max(right - left, 0.5):.1f}" y="{_TOP}" '
            f'height="{HEIGHT - _TOP - _BOTTOM}"><title>{words}</title></rect>'
        )
    return strips


def ticks(low: float, high: float, count: int) -> List[float]:
    """About `count` round values, of which the first is at or below `low` and the last at or above `high`.

    Raises:
        ValueError: `high` is below `low`.
    """
    if high < low:
        raise ValueError(f"ticks: {high} is below {low}")
    if high == low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / max(count - 1, 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def thinned(points: Sequence[Point], limit: int = MAX_POINTS) -> List[Point]:
    """At most `limit` points: means of equal runs of neighbors, each at the place of its last point."""
    if len(points) <= limit:
        return list(points)
    run = math.ceil(len(points) / limit)
    groups = [points[start : start + run] for start in range(0, len(points), run)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]
