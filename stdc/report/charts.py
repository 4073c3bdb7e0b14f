"""Which curves the page shows: loss, validation mIoU and its end, each class, learning rate, speed."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from stdc.data.labels import TRAIN_NAMES
from stdc.report.curves import Band, Mark, Point, Series, ValueTable, line_chart, small_chart, value_table
from stdc.results.folder import Results, SeedResult
from stdc.results.formatting import NONE

STYLES = ("c0", "c1", "c2", "c3")

#: The end of training is its last third, with at least so many evaluations.
_END_SHARE, _LEAST_EVALUATIONS = 1 / 3, 3
#: Points of mIoU; a published value further from the curve than this would flatten it, so it is told in words.
_FAR_POINTS = 8.0
#: Rows of the table beneath the small charts of the classes.
_CLASS_ROWS = 12


class Chart(NamedTuple):
    """A drawing with its words: `legend` holds (name, style), `values` the same figures as a table."""

    title: str
    note: str
    svg: str
    legend: List[Tuple[str, str]]
    values: ValueTable


class ClassChart(NamedTuple):
    """One class over time; `final` is the last known IoU in percent."""

    name: str
    svg: str
    final: Optional[float]


def learning_charts(results: Results, verdict: Mapping[str, Any]) -> List[Chart]:
    """Curves over training: one line per seed; a single seed also shows the parts of its loss."""
    loss = _lines(results, "loss", _losses)
    legend = [(line.name, line.style) for line in loss] if len(loss) > 1 else []
    if len(results.seeds) == 1:
        parts = [("ohem", "main head"), ("detail_bce", "detail, cross entropy"), ("detail_dice", "detail, Dice")]
        for index, (key, name) in enumerate(parts, start=1):
            loss += [line._replace(name=name, style=STYLES[index]) for line in _lines(results, key, _losses)]
        legend = [(line.name, line.style) for line in loss if line.points]
    several = [(line.name, line.style.split()[0]) for line in _miou(results)] if len(results.seeds) > 1 else []
    speed = _lines(results, "images_per_s", _losses)
    charts = [
        _chart("Loss", "sum of all heads, mean of each logging interval", loss, text="{:.4g}".format, legend=legend),
        _miou_chart(results, several),
        _end_chart(results, verdict, several),
        _chart("Learning rate", "", _lines(results, "lr", _losses), text="{:.3g}".format, legend=several),
        _chart("Training speed", "images/s, all devices", speed, text="{:.4g}".format, legend=several),
    ]
    return [chart for chart in charts if chart is not None]


def class_charts(results: Results) -> Tuple[List[ClassChart], Optional[ValueTable]]:
    """Each class's IoU in percent over the evaluations during training, and a table of the first seed's values.

    Nothing where no history holds the classes.
    """
    by_seed = [{name: _class_points(seed, name) for name in TRAIN_NAMES} for seed in results.seeds]
    x_high = max((x for known in by_seed for points in known.values() for x, _ in points), default=0.0)
    if not x_high:
        return [], None
    charts = []
    for name in TRAIN_NAMES:
        series = [
            Series(f"seed {seed.seed}", known[name], STYLES[index % len(STYLES)])
            for index, (seed, known) in enumerate(zip(results.seeds, by_seed))
        ]
        finals = [known[name][-1][1] for known in by_seed if known[name]]
        final = math.fsum(finals) / len(finals) if finals else None
        charts.append(ClassChart(name, small_chart(f"IoU of {name} during training", series, x_high, 100.0), final))
    first = [Series(name, points, "c0") for name, points in by_seed[0].items()]
    return charts, value_table(first, "{:.1f}".format, NONE, _CLASS_ROWS)


def best_evaluation(seed: SeedResult) -> Optional[Point]:
    """(iteration, mIoU in percent) of the best evaluation during training, the first of equals; None without any."""
    points = _points(seed.evaluations, "miou", 100)
    return max(points, key=lambda point: (point[1], -point[0])) if points else None


def _miou_chart(results: Results, legend: List[Tuple[str, str]]) -> Optional[Chart]:
    return _chart(
        "Validation mIoU",
        "percent, during training; scale 1, no flip",
        _miou(results),
        text="{:.2f}".format,
        legend=legend,
        marks=_best_marks(results),
    )


def _end_chart(results: Results, verdict: Mapping[str, Any], legend: List[Tuple[str, str]]) -> Optional[Chart]:
    """The same around the end of training, on an axis of its own, with the published value where it is near."""
    whole = _miou(results)
    last = max((x for line in whole for x, _ in line.points), default=0.0)
    at = sorted({x for line in whole for x, _ in line.points})
    if len(at) <= _LEAST_EVALUATIONS:
        return None
    start = min(last * (1 - _END_SHARE), at[-_LEAST_EVALUATIONS])
    lines = [line._replace(points=[point for point in line.points if point[0] >= start]) for line in whole]
    values = [y for line in lines for _, y in line.points]
    note, band = "percent", None
    published = _published(results, verdict)
    if published is not None:
        near = min(abs(published.value - value) for value in values) <= _FAR_POINTS
        band = published if near else None
        note = "percent; dashed: published, with its tolerance" if near else f"percent; {published.name}: out of range"
    marks = [mark for mark in _best_marks(results) if mark.point[0] >= start]
    return _chart(
        "Validation mIoU, the end",
        note,
        lines,
        text="{:.2f}".format,
        legend=legend,
        marks=marks,
        band=band,
        from_zero=False,
    )


def _published(results: Results, verdict: Mapping[str, Any]) -> Optional[Band]:
    """The published value that evaluations during training can be held against: the same network, scale 1, no flip."""
    rows = [
        row
        for row in verdict["comparisons"]
        if row["backbone"] == results.stage.run.network.backbone
        and row["ever_comparable"]
        and list(row["protocol"]["scales"]) == [1.0]
        and not row["protocol"]["flip"]
    ]
    if not rows:
        return None
    row = min(rows, key=lambda row: row["id"] != verdict["decisive"])
    return Band(f"published {row['published']:.2f}", row["published"], row["tolerance"])


def _best_marks(results: Results) -> List[Mark]:
    marks = []
    for index, seed in enumerate(results.seeds):
        best = best_evaluation(seed)
        if best is not None:
            words = f"best {best[1]:.2f} at {best[0]:,.0f}" if len(results.seeds) == 1 else ""
            marks.append(Mark(words, best, STYLES[index % len(STYLES)]))
    return marks


def _miou(results: Results) -> List[Series]:
    return _lines(results, "miou", lambda seed: seed.evaluations, 100, " dots")


def _losses(seed: SeedResult) -> List[Dict[str, Any]]:
    return seed.losses


def _lines(
    results: Results,
    key: str,
    events: Callable[[SeedResult], List[Dict[str, Any]]],
    factor: float = 1.0,
    suffix: str = "",
) -> List[Series]:
    """One line per seed."""
    return [
        Series(
            key if len(results.seeds) == 1 else f"seed {seed.seed}",
            _points(events(seed), key, factor),
            STYLES[index % len(STYLES)] + suffix,
        )
        for index, seed in enumerate(results.seeds)
    ]


def _points(events: Iterable[Mapping[str, Any]], key: str, factor: float = 1.0) -> List[Point]:
    return [(float(event["iteration"]), factor * float(event[key])) for event in events if _is_figure(event.get(key))]


def _class_points(seed: SeedResult, name: str) -> List[Point]:
    return [
        (float(event["iteration"]), 100 * float(event["class_iou"][name]))
        for event in seed.evaluations
        if _is_figure((event.get("class_iou") or {}).get(name))
    ]


def _is_figure(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _chart(
    title: str,
    note: str,
    series: Sequence[Series],
    *,
    text: Callable[[float], str],
    legend: List[Tuple[str, str]],
    marks: Sequence[Mark] = (),
    band: Optional[Band] = None,
    from_zero: bool = True,
) -> Optional[Chart]:
    svg = line_chart(title, series, text=text, from_zero=from_zero, x_from_zero=from_zero, band=band, marks=marks)
    return Chart(title, note, svg, legend, value_table(series, text, NONE)) if svg else None
