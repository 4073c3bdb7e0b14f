"""What a finished run left in its results folder, read and checked."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, Container, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from stdc.data.labels import TRAIN_NAMES
from stdc.errors import InputError
from stdc.evaluation.metrics import class_iou
from stdc.files import read_json
from stdc.published.evidence import Evidence, SeedMetrics, evidence_of_results
from stdc.recipe import Network, part_of, resolve
from stdc.report.shapes import Shape, check, count, fraction, list_of, map_of, number, optional, size

#: Tolerance between a stored IoU and the one recomputed from the confusion matrix.
_SAME = 1e-9


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """The files of one seed. A file that a run may lack is None or empty."""

    seed: int
    metrics: Dict[str, Any]
    best: Optional[Dict[str, Any]]
    history: List[Dict[str, Any]]
    speed: Optional[Dict[str, Any]]
    provenance: Dict[str, Any]

    @property
    def losses(self) -> List[Dict[str, Any]]:
        """History events of training steps."""
        return [event for event in self.history if "loss" in event]

    @property
    def evaluations(self) -> List[Dict[str, Any]]:
        """History events of evaluations during training."""
        return [event for event in self.history if event.get("miou") is not None]


@dataclasses.dataclass(frozen=True)
class Results:
    """Results of one configuration: the report stage's configuration, the dataset's manifest, one result per seed.

    Attributes:
        costs: what each stage took; empty where it was not measured.
        files: (path relative to the results folder, what it holds) of the files a page can link to.
        command: words of the command that started the run; empty where it is not known.
    """

    config: Dict[str, Any]
    manifest: Dict[str, Any]
    manifest_sha256: str
    seeds: Sequence[SeedResult]
    costs: Sequence[StageCost] = ()
    files: Sequence[Tuple[str, str]] = ()
    command: Sequence[str] = ()

    def evidence(self) -> Evidence:
        """What the verdict is made from."""
        return evidence_of_results(
            name=str(self.config["name"]),
            dataset_kind=str(self.config["dataset_kind"]),
            manifest=self.manifest,
            model=self.config["model"],
            train=self.config["train"],
            data=self.config["data"],
            given_weights=self.config.get("weights"),
            seeds=[SeedMetrics(result.seed, result.metrics, result.best) for result in self.seeds],
        )


_PROTOCOL = {
    "name?": optional(str),
    "scales?": optional(list_of(number(0))),
    "flip?": optional(bool),
    "size?": size,
    "precision?": optional(str),
    "backend?": optional(str),
    "weights_sha256?": optional(str),
}
_SCORES = map_of(optional(fraction))
_EVALUATION = {
    "miou": optional(fraction),
    "class_iou": _SCORES,
    "category_iou?": _SCORES,
    "pixel_accuracy?": optional(fraction),
    "confusion": list_of(list_of(count(), length=len(TRAIN_NAMES)), length=len(TRAIN_NAMES)),
    "images": count(),
    "protocol": _PROTOCOL,
    "iiou?": optional({"class_iiou?": _SCORES, "category_iiou?": _SCORES, "miiou?": optional(fraction)}),
}
_METRICS = {
    **_EVALUATION,
    "protocols?": list_of(_EVALUATION),
    "per_image?": list_of(
        {
            "frame": str,
            "miou?": optional(fraction),
            "pixel_accuracy?": optional(fraction),
            "intersection?": list_of(count(), length=len(TRAIN_NAMES)),
            "union?": list_of(count(), length=len(TRAIN_NAMES)),
        }
    ),
}
_SPEED = {
    "inference?": optional(
        {
            "fps?": optional(number(0)),
            "latency_ms?": map_of(number(0)),
            "size?": size,
            "batch?": count(),
            "warmup?": count(),
            "iterations?": count(),
            "threads?": optional(count()),
            "precision?": optional(str),
            "backend?": optional(str),
            "method?": optional(str),
        }
    ),
    "training?": optional(
        {
            "images_per_s?": optional(number(0)),
            "images_per_s_per_device?": optional(number(0)),
            "reader_wait_share?": optional(fraction),
            "devices?": optional(count()),
        }
    ),
}
_SEGMENT = {
    "started?": optional(str),
    "finished?": optional(str),
    "commit?": optional(str),
    "dirty?": optional(bool),
    "from_iteration?": optional(count()),
    "to_iteration?": optional(count()),
}
_PROVENANCE = {
    "commit?": optional(str),
    "dirty?": optional(bool),
    "started?": optional(str),
    "finished?": optional(str),
    "run_hash?": optional(str),
    "manifest_sha256?": optional(str),
    "seed?": optional(count()),
    "recipe?": optional(dict),
    "identity?": optional({"inputs?": optional(map_of(optional(str))), "network?": optional(dict)}),
    "versions?": optional(map_of(str)),
    "hardware?": optional(
        {"devices?": optional(count(1)), "threads?": optional(count()), "workers?": optional(count())}
    ),
    "segments?": optional(list_of(_SEGMENT)),
}
_EVENT = {"iteration": count(), "class_iou?": optional(_SCORES)}
_MANIFEST = {
    "expected?": optional(str),
    "label_source?": optional(str),
    "splits?": map_of({"frames?": count(), "cities?": map_of(count())}),
    "sizes?": list_of(size),
    "frames?": list_of({"frame": str, "split": str, "image": {"sha256": str}}),
}
_CONFIG = {
    "name": str,
    "seeds": list_of(count()),
    "dataset_kind": str,
    "model": {"backbone": str, "pretrained?": optional({"source?": optional(str), "sha256?": optional(str)})},
    "train": dict,
    "data": {"separator?": str, "subset?": optional(map_of(optional(count())))},
    "report": {"overlays?": optional(count())},
    "evaluate": {
        "protocols?": list_of({"name?": optional(str), "scales?": list_of(number(0)), "flip?": optional(bool)})
    },
}


def read_config(path: Path) -> Dict[str, Any]:
    """The configuration of the report stage.

    Raises:
        InputError: the file is unreadable, or a section is missing or of the wrong kind.
    """
    config: Dict[str, Any] = read_json(path)
    check(path, config, _CONFIG, "let Snakemake write the stage's configuration again")
    if not config["seeds"]:
        raise InputError(f"{path}: seeds: empty; at least one is needed")
    try:
        part_of(Network, config["model"])
        resolve(config["train"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return config


def read_dataset_manifest(path: Path) -> Dict[str, Any]:
    """The dataset's manifest.

    Raises:
        InputError: the file is unreadable or no manifest.
    """
    manifest: Dict[str, Any] = read_json(path)
    check(path, manifest, _MANIFEST, "run check_dataset again")
    return manifest


def read_seed(folder: Path, seed: int) -> SeedResult:
    """The results of one seed. Only `metrics.json` has to be there.

    Raises:
        InputError: it is missing, or a file is damaged.
    """
    return SeedResult(
        seed=seed,
        metrics=read_metrics(folder / "metrics.json"),
        best=read_metrics(folder / "metrics_best.json") if (folder / "metrics_best.json").exists() else None,
        history=read_events(folder / "history.jsonl"),
        speed=_optional(folder / "speed.json", _SPEED, "run measure_speed again"),
        provenance=_optional(folder / "provenance.json", _PROVENANCE, "run train again") or {},
    )


def read_metrics(path: Path) -> Dict[str, Any]:
    """A `metrics.json`, its classes in the order of its confusion matrix.

    A file's keys are sorted by name, its matrix is by train id.

    Raises:
        InputError: the file is unreadable or of another shape, or its IoU do not follow from its matrix.
    """
    metrics: Dict[str, Any] = read_json(path)
    advice = "run evaluate again"
    check(path, metrics, _METRICS, advice)
    given = metrics["class_iou"]
    if set(given) != set(TRAIN_NAMES):
        raise InputError(f"{path}: class_iou: the {len(TRAIN_NAMES)} trained classes are expected; {advice}")
    counted = class_iou(np.array(metrics["confusion"], np.int64))
    for name, value in zip(TRAIN_NAMES, counted):
        stored = given[name]
        if (stored is None) != (value is None) or (value is not None and abs(stored - value) > _SAME):
            raise InputError(f"{path}: class_iou: {name} is {stored}, but the confusion matrix gives {value}; {advice}")
    return {**metrics, "class_iou": {name: given[name] for name in TRAIN_NAMES}}


def read_events(path: Path) -> List[Dict[str, Any]]:
    """The events of a `history.jsonl`; none where there is no such file.

    Raises:
        InputError: a line is no event; names its number.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as text ({error}); run train again") from None
    events = []
    for position, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{path}: line {position} is not JSON; run train again") from None
        check(f"{path}: line {position}", event, _EVENT, "run train again")
        events.append(event)
    return events


@dataclasses.dataclass(frozen=True)
class StageCost:
    """What one job took, as Snakemake measured it. A figure that it could not measure is None.

    Attributes:
        stage: name of the rule.
        run: what the job was for, such as "seed 0"; empty for the stages of a dataset.
    """

    stage: str
    run: str
    seconds: float
    peak_megabytes: Optional[float]
    cpu_seconds: Optional[float]


def read_stage_costs(paths: Sequence[Path]) -> List[StageCost]:
    """The benchmark files that exist, in the order given. One that is not of Snakemake's form is left out.

    Args:
        paths: `logs/benchmark/<rule>/<name>[-seed<k>[_best]].tsv`.
    """
    costs = []
    for path in paths:
        try:
            with path.open(encoding="utf-8", newline="") as handle:
                rows = list(csv.DictReader(handle, delimiter="\t"))
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
        seconds = [value for value in (_measured(row, "s") for row in rows) if value is not None]
        if not seconds:
            continue
        peaks = [value for value in (_measured(row, "max_rss") for row in rows) if value is not None]
        busy = [value for value in (_measured(row, "cpu_time") for row in rows) if value is not None]
        costs.append(
            StageCost(
                stage=path.parent.name.replace("_", " "),
                run=_run_of(path.stem),
                seconds=math.fsum(seconds),
                peak_megabytes=max(peaks, default=None),
                cpu_seconds=math.fsum(busy) if busy else None,
            )
        )
    return costs


def _measured(row: Mapping[str, Any], column: str) -> Optional[float]:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        # Snakemake writes "-" or "NA" where a job was too short to be measured.
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _run_of(stem: str) -> str:
    match = re.search(r"-seed(\d+)(_best)?$", stem)
    if match is None:
        return ""
    return f"seed {match.group(1)}{', best weights' if match.group(2) else ''}"


def files_of(folder: Path, seeds: Sequence[int], beside: Container[str]) -> List[Tuple[str, str]]:
    """Files of a run that its page can link to: (path relative to the results folder, what it holds).

    Args:
        beside: names of files that are about to be written into the folder.
    """
    listed = [(name, words) for name, words in _TOP_FILES if name in beside or (folder / name).exists()]
    for seed in seeds:
        listed += [
            (f"seed{seed}/{name}", words) for name, words in _SEED_FILES if (folder / f"seed{seed}" / name).exists()
        ]
    return listed


_TOP_FILES = (
    ("verdict.json", "the verdict, and every comparison it is made from"),
    ("report_metrics_only.html", "this page without pictures of the dataset; it may be shared"),
    ("config/train.json", "what the training was configured with"),
)
_SEED_FILES = (
    ("model.pdparams", "final weights"),
    ("best.pdparams", "best weights by validation mIoU"),
    ("metrics.json", "scores of the final weights"),
    ("metrics_best.json", "scores of the best weights"),
    ("history.jsonl", "loss, learning rate, speed, mIoU over time"),
    ("speed.json", "speed, and how it was measured"),
    ("provenance.json", "code, machine, versions, times"),
)


def _optional(path: Path, shape: Shape, advice: str) -> Optional[Dict[str, Any]]:
    if not path.exists():
        return None
    document: Dict[str, Any] = read_json(path)
    check(path, document, shape, advice)
    return document


def main_protocol(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the first figures of a `metrics.json` were evaluated."""
    protocol: Mapping[str, Any] = metrics["protocol"]
    return protocol
