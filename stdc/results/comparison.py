"""Several results folders side by side: recipe, data, weights, scores with their spread, speed."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from stdc.data.labels import TRAIN_NAMES
from stdc.errors import InputError
from stdc.evaluation.metrics import mean_score
from stdc.published.recipe_diff import value_text
from stdc.results.folder import DATASETS, ReportStage, SeedResult, read_report_stage, read_seed, require_folder
from stdc.results.formatting import NONE, number, percent, short_hash
from stdc.results.segments import training_seconds
from stdc.units import clock_text, size_text

#: Resamples of the images, the generator's seed, and the share of them that the interval holds.
RESAMPLES, BOOTSTRAP_SEED, INTERVAL = 2000, 0, 0.95

Row = Tuple[str, List[str]]


@dataclasses.dataclass(frozen=True)
class Run:
    """One results folder. `label` tells it apart from the others."""

    label: str
    folder: Path
    stage: ReportStage
    seeds: Sequence[SeedResult]


@dataclasses.dataclass(frozen=True)
class Score:
    """One figure of one run, in percent and points; None: not known.

    Attributes:
        mean, low, high: over the seeds.
        difference: mean of this run less that of the first.
        interval: where the difference lies when other images of the same kind are drawn, with 95 % confidence.
    """

    mean: Optional[float]
    low: Optional[float]
    high: Optional[float]
    difference: Optional[float] = None
    interval: Optional[Tuple[float, float]] = None

    @property
    def certain(self) -> bool:
        """Whether the choice of images does not explain the difference."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What stands on the page.

    Attributes:
        labels: of the runs, the first being the one that the others are held against.
        recipe, data, weights, speed: (what, one text per run); a row of `recipe` is there only where the runs differ.
        scores: (what, one score per run); mIoU first, then each class.
        images: why, or over how many images, the intervals were taken.
    """

    labels: List[str]
    recipe: List[Row]
    data: List[Row]
    weights: List[Row]
    scores: List[Tuple[str, List[Score]]]
    speed: List[Row]
    images: str


def read_runs(folders: Sequence[Path]) -> List[Run]:
    """Results folders.

    Raises:
        InputError: fewer than two, one twice, or one is damaged.
    """
    if len(folders) < 2:
        raise InputError("compare: two results folders or more are needed, such as results/a results/b")
    # Path.resolve would end in an error of its own at a link to itself; reading the folder says it in words.
    if len({os.path.realpath(folder) for folder in folders}) < len(folders):
        raise InputError("compare: a results folder is given twice")
    runs = [read_run(folder) for folder in folders]
    names = [run.label for run in runs]
    return [
        run if names.count(run.label) == 1 else dataclasses.replace(run, label=f"{run.label} ({index})")
        for index, run in enumerate(runs, start=1)
    ]


def read_run(folder: Path) -> Run:
    """One results folder.

    Raises:
        InputError: a file is missing or damaged.
    """
    require_folder(folder)
    stage = read_report_stage(folder / "config" / "report.json")
    seeds = [read_seed(folder / f"seed{seed}", seed) for seed in stage.run.seeds]
    return Run(stage.run.name, folder, stage, seeds)


def compare(runs: Sequence[Run]) -> Comparison:
    """Runs held against the first of them."""
    resampled, images = resampled_scores(runs)
    return Comparison(
        labels=[run.label for run in runs],
        recipe=_recipe_rows(runs),
        data=_data_rows(runs),
        weights=_weight_rows(runs),
        scores=_scores(runs, resampled),
        speed=_speed_rows(runs),
        images=images,
    )


# ---- recipe, data, weights, speed


def _recipe_rows(runs: Sequence[Run]) -> List[Row]:
    columns = []
    for run in runs:
        hardware = run.seeds[0].provenance.get("hardware") or {}
        values: Dict[str, Any] = run.stage.run.recipe.as_dict()
        values["backbone"] = run.stage.run.network.backbone
        values["devices"] = hardware.get("devices")
        columns.append(values)
    keys = list(dict.fromkeys(key for values in columns for key in values))
    rows = [(key.replace("_", " "), [value_text(values.get(key)) for values in columns]) for key in keys]
    return [(key, texts) for key, texts in rows if len(set(texts)) > 1]


def _data_rows(runs: Sequence[Run]) -> List[Row]:
    def subset(run: Run, split: str) -> str:
        count = run.stage.run.subset.get(split)
        return "all" if count is None else f"{count} frames"

    def protocol(run: Run) -> str:
        main = run.seeds[0].metrics["protocol"]
        scales = ", ".join(f"{scale:g}" for scale in main.get("scales") or ())
        return f"scale {scales}{', flip' if main.get('flip') else ''}, {size_text(main.get('size'))}"

    kinds = [run.stage.dataset_kind for run in runs]
    return [
        ("dataset", [DATASETS.get(kind, kind) for kind in kinds]),
        ("manifest", [short_hash(run.seeds[0].provenance.get("manifest_sha256")) for run in runs]),
        ("trained on", [subset(run, "train") for run in runs]),
        ("validation images", [number(run.seeds[0].metrics["images"]) for run in runs]),
        ("evaluated at", [protocol(run) for run in runs]),
    ]


def _weight_rows(runs: Sequence[Run]) -> List[Row]:
    def started(run: Run) -> str:
        start = run.stage.run.start
        return "random weights" if start.source is None else f"given weights {short_hash(start.sha256)}"

    def digests(run: Run) -> str:
        return ", ".join(short_hash(seed.metrics["protocol"].get("weights_sha256")) for seed in run.seeds)

    return [
        ("seeds", [", ".join(str(seed.seed) for seed in run.seeds) for run in runs]),
        ("started from", [started(run) for run in runs]),
        ("final weights", [digests(run) for run in runs]),
        ("commit", [short_hash(run.seeds[0].provenance.get("commit")) for run in runs]),
    ]


def _speed_rows(runs: Sequence[Run]) -> List[Row]:
    def mean(run: Run, part: str, *path: str) -> Optional[float]:
        values = []
        for seed in run.seeds:
            value: Any = (seed.speed or {}).get(part)
            for key in path:
                value = (value or {}).get(key)
            values.append(value)
        return mean_score(values)

    def spent(run: Run) -> str:
        seconds = mean_score([training_seconds(seed.provenance) for seed in run.seeds])
        return NONE if seconds is None else clock_text(seconds)

    def device(run: Run) -> str:
        found = run.seeds[0].provenance.get("device")
        count = (run.seeds[0].provenance.get("hardware") or {}).get("devices")
        name = str(found.get("name") or found.get("kind") or NONE) if isinstance(found, dict) else NONE
        return f"{count} x {name}" if count else name

    return [
        ("device", [device(run) for run in runs]),
        ("training, images/s", [number(mean(run, "training", "images_per_s")) for run in runs]),
        ("waiting for data, %", [percent(mean(run, "training", "reader_wait_share"), 1) for run in runs]),
        ("training took", [spent(run) for run in runs]),
        ("inference, FPS", [number(mean(run, "inference", "fps")) for run in runs]),
        ("latency p50, ms", [number(mean(run, "inference", "latency_ms", "p50"), 1) for run in runs]),
        ("latency p95, ms", [number(mean(run, "inference", "latency_ms", "p95"), 1) for run in runs]),
    ]


# ---- scores


def _scores(runs: Sequence[Run], resampled: Optional[Sequence[np.ndarray]]) -> List[Tuple[str, List[Score]]]:
    """Final weights: mIoU, then each class. The columns of `resampled` are in this order."""
    rows = []
    for column, name in enumerate(("mIoU", *TRAIN_NAMES)):
        scores: List[Score] = []
        for place, run in enumerate(runs):
            score = over_seeds([score_of(seed, name) for seed in run.seeds])
            if place and score.mean is not None and scores[0].mean is not None:
                score = dataclasses.replace(score, difference=score.mean - scores[0].mean)
                if resampled is not None:
                    interval = interval_of(resampled[place][:, column] - resampled[0][:, column])
                    score = dataclasses.replace(score, interval=interval)
            scores.append(score)
        rows.append((name, scores))
    return rows


def score_of(seed: SeedResult, name: str) -> Optional[float]:
    """mIoU, or the IoU of a class, of the final weights, in percent."""
    value = seed.metrics["miou"] if name == "mIoU" else seed.metrics["class_iou"][name]
    return None if value is None else 100 * float(value)


def over_seeds(values: Sequence[Optional[float]]) -> Score:
    """Mean, least and most; nothing where a value is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Score(None, None, None)
    return Score(math.fsum(known) / len(known), min(known), max(known))


def interval_of(differences: np.ndarray) -> Optional[Tuple[float, float]]:
    """Where INTERVAL of the resampled differences lie."""
    known = differences[np.isfinite(differences)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return float(low), float(high)


def resampled_scores(runs: Sequence[Run]) -> Tuple[Optional[List[np.ndarray]], str]:
    """Scores of resampled images, one array (RESAMPLES, 1 + classes) in percent per run; and in words, of what.

    The same images are drawn for all runs and seeds: a hard image that is drawn twice is so for everyone.
    """
    frames = {
        tuple(entry["frame"] for entry in seed.metrics.get("per_image") or ()) for run in runs for seed in run.seeds
    }
    if len(frames) != 1:
        return None, "no intervals: the runs were not evaluated on the same images"
    counts = [[_overlaps(seed) for seed in run.seeds] for run in runs]
    if any(overlaps is None for of_run in counts for overlaps in of_run):
        return None, "no intervals: an evaluation does not hold the counts of single images; run evaluate again"
    (names,) = frames
    images = len(names)
    if images < 2:
        return None, "no intervals: one image says nothing about others"
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES).astype(np.float64)
    resampled = [np.mean([_scores_of(drawn, overlaps) for overlaps in of_run], axis=0) for of_run in counts]
    words = f"{RESAMPLES:,} times {images} images drawn anew from the {images}, the same ones for every run"
    return resampled, words


def _overlaps(seed: SeedResult) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Intersection and union, (images, classes), of each image under the main protocol."""
    entries = seed.metrics.get("per_image") or []
    if not all("intersection" in entry and "union" in entry for entry in entries):
        return None
    return tuple(  # type: ignore[return-value]
        np.array([entry[key] for entry in entries], np.float64).reshape(len(entries), -1)
        for key in ("intersection", "union")
    )


def _scores_of(drawn: np.ndarray, overlaps: Optional[Tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """mIoU and the classes' IoU in percent of each resample; NaN for a class that does not occur in it."""
    assert overlaps is not None
    intersection, union = (drawn @ counts for counts in overlaps)
    classes = np.full(union.shape, np.nan)
    np.divide(100 * intersection, union, out=classes, where=union > 0)
    occurs = union > 0
    means = np.where(occurs, classes, 0).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return np.column_stack([means, classes])
