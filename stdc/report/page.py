"""The report page: one HTML file without script or network, and a second one without pictures."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import stdc
from stdc.data.labels import CATEGORY_NAMES
from stdc.evaluation.metrics import mean_score
from stdc.published import recipe_diff, words
from stdc.published.figures import Reference
from stdc.published.forecast import forecast, planned_evidence
from stdc.published.planned_dataset import Dataset
from stdc.report import tables
from stdc.report.charts import class_charts, learning_charts
from stdc.report.citation import bibtex
from stdc.report.confusion import heat_map
from stdc.report.frame_pictures import Picture
from stdc.report.html import environment, style_sheet
from stdc.report.merged_recipe import recipe_text
from stdc.report.run_facts import (
    city_counts,
    command_text,
    dataset_facts,
    protocol_line,
    provenance_of,
    results_date,
)
from stdc.report.tables import over_seeds
from stdc.results.folder import DATASETS, Results, main_protocol
from stdc.results.formatting import NONE, number, percent
from stdc.units import size_text

TEMPLATE = "template.html"

#: (height, width) of the images whose mean object sizes the official iIoU uses.
OFFICIAL_SIZE = [1024, 2048]

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
        pictures: None for the page that may be shared, which holds no pixel of the dataset and names no place of the
            user's machine.
        other_page: file name of the page without pictures, for the note on the page that has them.
    Returns:
        The whole page.
    """
    shared = pictures is None
    stage, run = results.stage, results.stage.run
    first = results.seeds[0]
    small, small_values = class_charts(results)
    rows = tables.recipe_rows(results)
    return (
        environment(shared)
        .get_template(TEMPLATE)
        .render(
            style=style_sheet(),
            name=run.name,
            backbone=run.network.backbone.upper(),
            dataset=DATASETS.get(stage.dataset_kind, stage.dataset_kind),
            version=stdc.__version__,
            date=results_date(results),
            verdict=verdict,
            given=words.given_name(stage.given_weights),
            decisive=next(row for row in verdict["comparisons"] if row["id"] == verdict["decisive"]),
            verdict_style=_VERDICT_STYLES.get(verdict["verdict"], "neutral"),
            forecast=_forecast_text(results, reference),
            tiles=_tiles(results, verdict),
            protocol=protocol_line(first.metrics),
            charts=learning_charts(results, verdict),
            small_charts=small,
            small_values=small_values,
            several=len(results.seeds) > 1,
            first_seed=first.seed,
            has_best=first.best is not None,
            published=_published(verdict, results),
            measured=verdict["measured"],
            seed_rows=tables.seed_rows(results),
            classes=tables.class_rows(results),
            categories=tables.category_rows(results),
            has_iiou="iiou" in first.metrics,
            iiou_elsewhere="iiou" in first.metrics and main_protocol(first.metrics).get("size") != OFFICIAL_SIZE,
            heat=heat_map(first.metrics["confusion"], list(first.metrics["class_iou"])),
            counts=tables.count_rows(first.metrics["confusion"], list(first.metrics["class_iou"])),
            worst=tables.worst_frames(first.metrics),
            pictures=pictures,
            generated=stage.dataset_kind == "synthetic",
            other_page=other_page,
            speed=tables.speed_rows(results),
            costs=results.costs,
            published_speeds=[speed for speed in reference.speeds if speed.backbone == run.network.backbone],
            sources=reference.sources,
            recipe_rows=rows,
            recipe_differences=[row for row in rows if row["deviates"]],
            recipe_columns=recipe_diff.COLUMNS[1:],
            preset=run.recipe.preset,
            dataset_facts=dataset_facts(results),
            cities=city_counts(results.manifest),
            provenance=[provenance_of(seed, shared) for seed in results.seeds],
            command=command_text(list(results.command), shared) if results.command else "",
            recipe_text=recipe_text(stage.document, shared),
            citation=bibtex(first.provenance.get("commit")),
            files=[(path, words) for path, words in results.files if not shared or "/" not in path],
        )
    )


def _forecast_text(results: Results, reference: Reference) -> str:
    """What could be said before training, from the configuration and the number of images alone."""
    splits = results.manifest.get("splits") or {}
    frames = {split: int((splits.get(split) or {}).get("frames", 0)) for split in ("train", "val")}
    dataset = Dataset(results.stage.dataset_kind, "", frames)
    found = forecast(planned_evidence(results.stage.run, dataset), reference)
    rows = [row for row in found["rows"] if row["id"] in found["comparable"]]
    figures = ", ".join(f"{row['published']:.2f} % ({row['title']})" for row in rows)
    return f"comparable with {figures}" if rows else "comparable with no published figure"


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
    categories = mean_score([over_seeds(results, "metrics", "category_iou", name) for name in CATEGORY_NAMES])
    tiles.append(Tile("category mIoU", percent(categories), "%", note))
    if "iiou" in first.metrics:
        objects = percent(over_seeds(results, "metrics", "iiou", "miiou"))
        tiles.append(Tile("iIoU, classes", objects, "%", "weighted by object size"))
    tiles.append(Tile("pixel accuracy", percent(over_seeds(results, "metrics", "pixel_accuracy")), "%", note))
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


def _published(verdict: Mapping[str, Any], results: Results) -> Dict[str, List[Mapping[str, Any]]]:
    """Comparisons with figures of the same network, and the others."""
    backbone = results.stage.run.network.backbone
    rows = [dict(row, style=_VERDICT_STYLES[row["verdict"]]) for row in verdict["comparisons"]]
    return {
        "same": [row for row in rows if row["backbone"] == backbone and row["ever_comparable"]],
        "information": [row for row in rows if row["backbone"] == backbone and not row["ever_comparable"]],
    }
