"""The report page: one HTML file without script or network, and a second one without pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from stdc import recipe
from stdc.data.labels import CATEGORY_NAMES, TRAIN_COLORS, TRAIN_NAMES
from stdc.evaluation.metrics import mean_score
from stdc.published import recipe_diff
from stdc.published.reference import Reference
from stdc.report.confusion import heat_map, pixel_shares, taken_for
from stdc.report.curves import Series, line_chart
from stdc.report.formatting import NONE, number, numbers, percent
from stdc.report.frame_pictures import Picture
from stdc.report.results_folder import Results, main_protocol
from stdc.report.run_facts import DATASETS, city_counts, dataset_facts, protocol_line, provenance_of
from stdc.units import size_text

TEMPLATE, STYLE = "template.html", "style.css"

#: (height, width) of the images whose mean object sizes the official iIoU uses.
OFFICIAL_SIZE = [1024, 2048]

#: Above this share of time spent waiting for data, more workers would train faster.
WAIT_WARNING = 0.10

_VERDICT_STYLES = {
    "REPRODUCED": "good",
    "WITHIN NOISE": "near",
    "BELOW": "bad",
    "NOT COMPARABLE": "neutral",
}


class Tile(NamedTuple):
    """A key figure."""

    label: str
    value: str
    unit: str
    note: str


def render(
    results: Results,
    verdict: Mapping[str, Any],
    reference: Reference,
    pictures: Optional[Sequence[Picture]],
    other_page: str = "",
) -> str:
    """The page as HTML.

    Args:
        pictures: None for the page that may be shared, which holds no pixel of the dataset.
        other_page: file name of the page without pictures, for the note on the page that has them.
    Returns:
        The whole page.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, size=size_text, numbers=numbers)
    first = results.seeds[0]
    charts = [dict(chart, svg=Markup(chart["svg"])) for chart in _charts(results)]
    return environment.get_template(TEMPLATE).render(
        style=Markup(Path(__file__).with_name(STYLE).read_text(encoding="utf-8")),
        name=results.config["name"],
        backbone=str(results.config["model"].get("backbone", "")).upper(),
        dataset=DATASETS.get(results.config["dataset_kind"], results.config["dataset_kind"]),
        verdict=verdict,
        decisive=next(row for row in verdict["comparisons"] if row["id"] == verdict["decisive"]),
        verdict_style=_VERDICT_STYLES.get(verdict["verdict"], "neutral"),
        tiles=_tiles(results, verdict),
        protocol=protocol_line(first.metrics),
        charts=charts,
        several=len(results.seeds) > 1,
        first_seed=first.seed,
        has_best=first.best is not None,
        published=_published(verdict, results),
        measured=verdict["measured"],
        classes=_classes(results),
        categories=_categories(results),
        has_iiou="iiou" in first.metrics,
        iiou_elsewhere="iiou" in first.metrics and main_protocol(first.metrics).get("size") != OFFICIAL_SIZE,
        heat=Markup(heat_map(first.metrics["confusion"], list(first.metrics["class_iou"]))),
        pictures=pictures,
        generated=results.config["dataset_kind"] == "synthetic",
        other_page=other_page,
        speed=_speed(results),
        published_speeds=[speed for speed in reference.speeds if speed.backbone == results.config["model"]["backbone"]],
        sources=reference.sources,
        recipe_rows=_recipe_rows(results),
        recipe_columns=recipe_diff.COLUMNS[1:],
        preset=recipe.resolve(results.config["train"]).preset,
        dataset_facts=dataset_facts(results),
        cities=city_counts(results.manifest),
        provenance=[provenance_of(seed) for seed in results.seeds],
    )


def _tiles(results: Results, verdict: Mapping[str, Any]) -> List[Tile]:
    main = verdict["measured"][0]
    first = results.seeds[0]
    final = main["final"]
    tiles = [
        Tile("mIoU, final weights", _points(final), "%", _spread_note(final) or f"{main['images']} validation images")
    ]
    if main["best"]:
        tiles.append(Tile("mIoU, best weights", _points(main["best"]), "%", "chosen on these same images: optimistic"))
    note = f"final weights, mean of {len(results.seeds)} seeds" if len(results.seeds) > 1 else "final weights"
    categories = mean_score([_over_seeds(results, "metrics", "category_iou", name) for name in CATEGORY_NAMES])
    tiles.append(Tile("category mIoU", percent(categories), "%", note))
    if "iiou" in first.metrics:
        objects = percent(_over_seeds(results, "metrics", "iiou", "miiou"))
        tiles.append(Tile("iIoU, classes", objects, "%", "weighted by object size"))
    tiles.append(Tile("pixel accuracy", percent(_over_seeds(results, "metrics", "pixel_accuracy")), "%", note))
    of_seed = f"seed {first.seed}: " if len(results.seeds) > 1 else ""
    training = (first.speed or {}).get("training") or {}
    if training.get("images_per_s") is not None:
        share = training.get("reader_wait_share")
        note = f"{of_seed}{number(training.get('images_per_s_per_device'))} per device"
        note += f", {percent(share, 1)} % waiting for data" if share is not None else ""
        tiles.append(Tile("training", number(training["images_per_s"]), "images/s", note))
    inference = (first.speed or {}).get("inference") or {}
    if inference.get("fps") is not None:
        middle = number((inference.get("latency_ms") or {}).get("p50"), 1)
        note = f"{of_seed}{middle} ms median, {size_text(inference.get('size'))}"
        tiles.append(Tile("inference", number(inference["fps"]), "FPS", note))
    return tiles


def _points(spread: Optional[Mapping[str, Any]]) -> str:
    return f"{spread['mean']:.2f}" if spread else NONE


def _spread_note(spread: Optional[Mapping[str, Any]]) -> str:
    if not spread or len(spread["seeds"]) == 1:
        return ""
    return f"{len(spread['seeds'])} seeds, {spread['min']:.2f} to {spread['max']:.2f}"


def _charts(results: Results) -> List[Dict[str, Any]]:
    """Learning curves: one line per seed; a single seed also shows the parts of its loss."""
    styles = ["c0", "c1", "c2", "c3"]

    def lines(key: str, kind: str, factor: float = 1.0, suffix: str = "") -> List[Series]:
        made = []
        for index, seed in enumerate(results.seeds):
            points = [
                (float(event["iteration"]), factor * float(event[key]))
                for event in getattr(seed, kind)
                if isinstance(event.get(key), (int, float)) and math.isfinite(event[key])
            ]
            name = key if len(results.seeds) == 1 else f"seed {seed.seed}"
            made.append(Series(name, points, styles[index % len(styles)] + suffix))
        return made

    loss = lines("loss", "losses")
    legend = [(line.name, line.style) for line in loss] if len(loss) > 1 else []
    if len(results.seeds) == 1:
        parts = [("ohem", "main head"), ("detail_bce", "detail, cross entropy"), ("detail_dice", "detail, Dice")]
        for index, (key, name) in enumerate(parts, start=1):
            loss += [line._replace(name=name, style=styles[index]) for line in lines(key, "losses")]
        legend = [(line.name, line.style) for line in loss if line.points]
    charts = [
        ("Loss", "sum of all heads, mean of each logging interval", loss, "{:.4g}", True, legend),
        ("Validation mIoU", "percent, during training", lines("miou", "evaluations", 100, " dots"), "{:.4g}", True, []),
        ("Learning rate", "", lines("lr", "losses"), "{:.3g}", True, []),
        ("Training speed", "images/s, all devices", lines("images_per_s", "losses"), "{:.4g}", True, []),
    ]
    made = []
    for title, note, series, form, from_zero, keys in charts:
        svg = line_chart(title, series, form.format, from_zero)
        if svg:
            made.append({"title": title, "note": note, "svg": svg, "legend": keys})
    return made


def _published(verdict: Mapping[str, Any], results: Results) -> Dict[str, List[Mapping[str, Any]]]:
    """Comparisons with figures of the same network, and the others."""
    backbone = results.config["model"]["backbone"]
    rows = [dict(row, style=_VERDICT_STYLES[row["verdict"]]) for row in verdict["comparisons"]]
    return {
        "same": [row for row in rows if row["backbone"] == backbone and row["ever_comparable"]],
        "information": [row for row in rows if row["backbone"] == backbone and not row["ever_comparable"]],
    }


def _classes(results: Results) -> List[Dict[str, Any]]:
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
                "final": _over_seeds(results, "metrics", "class_iou", name),
                "best": _over_seeds(results, "best", "class_iou", name),
                "iiou": _over_seeds(results, "metrics", "iiou", "class_iiou", name),
                "taken_for": names[mistaken[0]] if mistaken else None,
                "taken_share": mistaken[1] if mistaken else None,
            }
        )
    return rows


def _categories(results: Results) -> List[Dict[str, Any]]:
    """One row per category, in the official order; means over the seeds."""
    return [
        {
            "name": name,
            "final": _over_seeds(results, "metrics", "category_iou", name),
            "best": _over_seeds(results, "best", "category_iou", name),
            "iiou": _over_seeds(results, "metrics", "iiou", "category_iiou", name),
        }
        for name in CATEGORY_NAMES
        if name in (results.seeds[0].metrics.get("category_iou") or {})
    ]


def _speed(results: Results) -> List[Dict[str, Any]]:
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


def _recipe_rows(results: Results) -> List[Dict[str, Any]]:
    """This run's recipe as text beside the published ones; a value that differs from its own preset is marked."""
    train = results.config["train"]
    preset = recipe.resolve(train).preset
    devices = (results.seeds[0].provenance.get("hardware") or {}).get("devices")
    this, *others = recipe_diff.COLUMNS
    return [
        {
            "label": row.key,
            "this": recipe_diff.shown(row.values[this]),
            "published": {name: recipe_diff.shown(row.values[name]) for name in others},
            "deviates": preset in row.differs,
        }
        for row in recipe_diff.compare(train, devices if isinstance(devices, int) else 1)
    ]


def _over_seeds(results: Results, document: str, *path: str) -> Optional[float]:
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
