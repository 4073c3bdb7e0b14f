"""Line charts as inline SVG, colored by the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from html import escape
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

Point = Tuple[float, float]

WIDTH, HEIGHT = 480, 262
_LEFT, _RIGHT, _BOTTOM = 64, 12, 34
#: Above the plot: one line for the values under the pointer, or two where there are many.
_TOP, _LINE_HEIGHT = 24, 14
#: Series whose values fit into one line.
_IN_ONE_LINE = 2

SMALL_WIDTH, SMALL_HEIGHT = 220, 104
_SMALL_LEFT, _SMALL_BOTTOM, _SMALL_TOP = 35, 16, 9

#: A chart is about this many pixels wide; with more points, neighbors are averaged.
MAX_POINTS = 240
#: A small chart is narrower.
MAX_SMALL_POINTS = 80


class Series(NamedTuple):
    """One line. `style` is a class of the style sheet: `c0` to `c3`, with ` dots` to mark each point."""

    name: str
    points: Sequence[Point]
    style: str


class Band(NamedTuple):
    """A dashed line across the chart, and what lies around it by no more than `tolerance`."""

    name: str
    value: float
    tolerance: float


class Mark(NamedTuple):
    """A point with words beside it."""

    words: str
    point: Point
    style: str


class Axes:
    """The axes of a chart: which place on the picture belongs to which value.

    Args:
        box: left, right, top and bottom edge of the plot on the picture.
        x_span, y_span: the least and the greatest value on each axis.
    """

    def __init__(self, box: Tuple[float, float, float, float], x_span: Point, y_span: Point) -> None:
        self.left, self.right, self.top, self.bottom = box
        self.x_span, self.y_span = x_span, y_span

    def x(self, value: float) -> float:
        """Pixels from the left edge of the picture to a value of the horizontal axis."""
        low, high = self.x_span
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Pixels from the top edge of the picture to a value of the vertical axis."""
        low, high = self.y_span
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    text: Callable[[float], str] = "{:g}".format,
    from_zero: bool = False,
    x_from_zero: bool = True,
    x_name: str = "iteration",
    band: Optional[Band] = None,
    marks: Sequence[Mark] = (),
) -> str:
    """A chart of lines over iterations; the values at the pointer, or at the finger, stand above it.

    Args:
        title: read aloud by screen readers.
        text: writes a value of the vertical axis.
        from_zero: let the vertical axis start at 0.
        x_from_zero: let the horizontal axis start at 0.
        band: drawn behind the lines; the vertical axis includes it.
        marks: points to be told apart from the others.
    Returns:
        SVG markup; empty where no series has a point.
    """
    drawn = [line._replace(points=thinned(line.points)) for line in series if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    values = [y for line in drawn for _, y in line.points] + [mark.point[1] for mark in marks]
    if band:
        values += [band.value - band.tolerance, band.value + band.tolerance]
    y_ticks = ticks(min(0.0, *values) if from_zero else min(values), max(values), 5)
    x_low = 0.0 if x_from_zero and max(xs) > 0 else min(xs)
    x_high = max(xs) if max(xs) > x_low else x_low + 1
    top = _TOP + (_LINE_HEIGHT if len(drawn) > _IN_ONE_LINE else 0)
    axes = Axes((_LEFT, WIDTH - _RIGHT, top, HEIGHT - _BOTTOM), (x_low, x_high), (y_ticks[0], y_ticks[-1]))

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts += _axes(axes, y_ticks, [tick for tick in ticks(x_low, x_high, 5) if x_low <= tick <= x_high], text)
    if band:
        parts += _band(axes, band)
    for line in drawn:
        parts.append(_polyline(axes, line))
        if "dots" in line.style or len(line.points) == 1:
            parts += [
                f'<circle class="dot {line.style}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.2"/>'
                for x, y in line.points
            ]
    for mark in marks:
        parts += _mark(axes, mark)
    parts += _readouts(axes, drawn, text, x_name)
    return "".join(parts) + "</svg>"


def small_chart(title: str, series: Sequence[Series], x_high: float, y_high: float) -> str:
    """A small chart without values, for a grid of them that share both axes, from 0 to `x_high` and `y_high`."""
    axes = Axes(
        (_SMALL_LEFT, SMALL_WIDTH - 4, _SMALL_TOP, SMALL_HEIGHT - _SMALL_BOTTOM), (0.0, x_high or 1.0), (0.0, y_high)
    )
    parts = [
        f'<svg class="chart small-chart" viewBox="0 0 {SMALL_WIDTH} {SMALL_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    for tick in (0.0, y_high / 2, y_high):
        y = axes.y(tick)
        parts.append(f'<line class="grid" x1="{axes.left}" x2="{axes.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{axes.left - 5}" y="{y + 4.5:.1f}" text-anchor="end">{tick:g}</text>')
    for line in series:
        if line.points:
            parts.append(_polyline(axes, line._replace(points=thinned(line.points, MAX_SMALL_POINTS))))
    return "".join(parts) + "</svg>"


def without_zeros(labels: Sequence[str]) -> List[str]:
    """The labels of an axis without last decimals that are 0 in all of them: 10.00 and 20.00 are 10 and 20."""
    shown = list(labels)
    while all("." in label and label[-1] in ".0" for label in shown):
        whole = any(label.endswith(".") for label in shown)
        shown = [label[:-1] for label in shown]
        if whole:
            break
    return shown


def _axes(axes: Axes, y_ticks: Sequence[float], x_ticks: Sequence[float], text: Callable[[float], str]) -> List[str]:
    parts = []
    for tick, label in zip(y_ticks, without_zeros([text(tick) for tick in y_ticks])):
        y = axes.y(tick)
        parts.append(f'<line class="grid" x1="{axes.left}" x2="{axes.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{axes.left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    for tick in x_ticks:
        x = axes.x(tick)
        anchor = "end" if x > WIDTH - 30 else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{tick:,g}</text>')
    return parts


def _polyline(axes: Axes, line: Series) -> str:
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in line.points)
    return f'<polyline class="line {line.style}" points="{path}"/>'


def _band(axes: Axes, band: Band) -> List[str]:
    high, low, middle = (axes.y(band.value + side * band.tolerance) for side in (1, -1, 0))
    return [
        f'<rect class="band" x="{axes.left}" width="{axes.right - axes.left:.1f}" y="{high:.1f}" '
        f'height="{max(low - high, 1):.1f}"/>',
        f'<line class="published" x1="{axes.left}" x2="{axes.right}" y1="{middle:.1f}" y2="{middle:.1f}"/>',
        f'<text class="tick" x="{axes.left + 5}" y="{middle - 5:.1f}">{escape(band.name)}</text>',
    ]


def _mark(axes: Axes, mark: Mark) -> List[str]:
    x, y = axes.x(mark.point[0]), axes.y(mark.point[1])
    # To the left of the point in the right half.
    anchor = "end" if x > (axes.left + axes.right) / 2 else "start"
    return [
        f'<circle class="mark {mark.style}" cx="{x:.1f}" cy="{y:.1f}" r="4.6"/>',
        f'<text class="mark-words" x="{x:.1f}" y="{y - 9:.1f}" text-anchor="{anchor}">{escape(mark.words)}</text>',
    ]


def _readouts(axes: Axes, drawn: Sequence[Series], text: Callable[[float], str], x_name: str) -> List[str]:
    """One invisible strip per iteration; the style sheet shows its values while it is pointed at, or touched."""
    by_x: Dict[float, List[str]] = {}
    for line in drawn:
        for x, y in line.points:
            by_x.setdefault(x, []).append(f"{line.name} {text(y)}")
    at = sorted(by_x)
    places = [axes.x(x) for x in at]
    edges = [axes.left, *((a + b) / 2 for a, b in zip(places, places[1:])), axes.right]
    strips = []
    for x, left, right in zip(at, edges, edges[1:]):
        words = [f"{x_name} {x:,.0f}: "]
        if len(drawn) > _IN_ONE_LINE:
            words += [", ".join(by_x[x])]
        else:
            words[0] += ", ".join(by_x[x])
        lines = "".join(
            f'<tspan x="{axes.left}" y="{12 + _LINE_HEIGHT * index}">{escape(line)}</tspan>'
            for index, line in enumerate(words)
        )
        strips.append(
            f'<g class="strip"><rect x="{left:.1f}" width="{max(right - left, 0.5):.1f}" y="{axes.top}" '
            f'height="{axes.bottom - axes.top}"/><text class="readout">{lines}</text></g>'
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


class ValueTable(NamedTuple):
    """The values of a chart in words, for those who cannot point at it: a row per iteration, a column per series."""

    names: List[str]
    rows: List[Tuple[str, List[str]]]


def value_table(series: Sequence[Series], text: Callable[[float], str], missing: str, limit: int = 24) -> ValueTable:
    """At most `limit` evenly spaced rows with the first and the last; `missing` stands where a series has no value."""
    drawn = [line for line in series if line.points]
    values = [dict(line.points) for line in drawn]
    at = sorted({x for known in values for x in known})
    if len(at) > limit:
        at = [at[round(index * (len(at) - 1) / (limit - 1))] for index in range(limit)]
    rows = [(f"{x:,.0f}", [text(known[x]) if x in known else missing for known in values]) for x in at]
    return ValueTable([line.name for line in drawn], rows)
