"""What a finished run left in its results folder, read and checked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from stdc.data.labels import TRAIN_NAMES
from stdc.errors import InputError
from stdc.evaluation.metrics import class_iou
from stdc.files import read_json
from stdc.published.evidence import Evidence, SeedMetrics, evidence_of_results

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
    """Results of one configuration: the report stage's configuration, the dataset's manifest, one result per seed."""

    config: Dict[str, Any]
    manifest: Dict[str, Any]
    manifest_sha256: str
    seeds: Sequence[SeedResult]

    def evidence(self) -> Evidence:
        """What the verdict is made from."""
        return evidence_of_results(
            name=str(self.config["name"]),
            dataset_kind=str(self.config["dataset_kind"]),
            manifest=self.manifest,
            model=self.config["model"],
            train=self.config["train"],
            data=self.config["data"],
            seeds=[SeedMetrics(result.seed, result.metrics, result.best) for result in self.seeds],
        )


def read_config(path: Path) -> Dict[str, Any]:
    """The configuration of the report stage.

    Raises:
        InputError: the file is unreadable, or a section is missing or of the wrong kind.
    """
    config = _mapping(path, read_json(path))
    kinds = {
        "name": str,
        "seeds": list,
        "dataset_kind": str,
        "model": dict,
        "train": dict,
        "data": dict,
        "report": dict,
    }
    for key, kind in kinds.items():
        if not isinstance(config.get(key), kind):
            raise InputError(f"{path}: {key}: {config.get(key)!r}; a {kind.__name__} is expected")
    if not config["seeds"]:
        raise InputError(f"{path}: seeds: empty; at least one is needed")
    return config


def read_seed(folder: Path, seed: int) -> SeedResult:
    """The results of one seed. Only `metrics.json` has to be there.

    Raises:
        InputError: it is missing, or a file is damaged.
    """
    return SeedResult(
        seed=seed,
        metrics=_metrics(folder / "metrics.json"),
        best=_metrics(folder / "metrics_best.json") if (folder / "metrics_best.json").exists() else None,
        history=_history(folder / "history.jsonl"),
        speed=_optional(folder / "speed.json"),
        provenance=_optional(folder / "provenance.json") or {},
    )


def _metrics(path: Path) -> Dict[str, Any]:
    metrics = _mapping(path, read_json(path))
    for key, kind in (("class_iou", dict), ("confusion", list), ("images", int), ("protocol", dict)):
        if not isinstance(metrics.get(key), kind):
            raise InputError(f"{path}: {key}: missing or no {kind.__name__}; run evaluate again")
    if "miou" not in metrics:
        raise InputError(f"{path}: miou: missing; run evaluate again")
    size = len(metrics["class_iou"])
    rows = metrics["confusion"]
    if len(rows) != size or not all(_is_count_row(row, size) for row in rows):
        raise InputError(f"{path}: confusion: {size} rows of {size} counts are expected; run evaluate again")
    return _in_order(metrics, path)


def _in_order(metrics: Dict[str, Any], path: Path) -> Dict[str, Any]:
    """The classes in the order of the confusion matrix: a file's keys are sorted by name, its matrix is by train id.

    Raises:
        InputError: the classes are others, or their IoU does not follow from the matrix.
    """
    given = metrics["class_iou"]
    if set(given) != set(TRAIN_NAMES):
        raise InputError(f"{path}: class_iou: the {len(TRAIN_NAMES)} trained classes are expected; run evaluate again")
    counted = class_iou(np.array(metrics["confusion"], np.int64))
    for name, value in zip(TRAIN_NAMES, counted):
        stored = given[name]
        if (stored is None) != (value is None) or (value is not None and abs(stored - value) > _SAME):
            raise InputError(
                f"{path}: class_iou: {name} is {stored}, but the confusion matrix gives {value}; run evaluate again"
            )
    return {**metrics, "class_iou": {name: given[name] for name in TRAIN_NAMES}}


def _is_count_row(row: Any, size: int) -> bool:
    return isinstance(row, list) and len(row) == size and all(type(count) is int and count >= 0 for count in row)


def _history(path: Path) -> List[Dict[str, Any]]:
    if not path.exists():
        return []
    events = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError:
            raise InputError(f"{path}: line {number} is not JSON; run train again") from None
        if not isinstance(event, dict) or type(event.get("iteration")) is not int:
            raise InputError(f"{path}: line {number}: an event with an iteration is expected; run train again")
        events.append(event)
    return events


def _optional(path: Path) -> Optional[Dict[str, Any]]:
    return _mapping(path, read_json(path)) if path.exists() else None


def _mapping(path: Path, value: Any) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {type(value).__name__} found, a JSON object is expected")
    return value


def main_protocol(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the first figures of a `metrics.json` were evaluated."""
    protocol: Mapping[str, Any] = metrics["protocol"]
    return protocol
