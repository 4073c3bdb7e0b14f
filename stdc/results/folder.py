"""What a finished run left in its results folder, read and checked."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Container, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from stdc.data.labels import TRAIN_NAMES
from stdc.errors import InputError
from stdc.evaluation.metrics import class_iou
from stdc.files import read_json, read_text
from stdc.published.configured_run import ConfiguredRun, configured_run
from stdc.published.evidence import Evidence, SeedMetrics, evidence_of_results
from stdc.results import documents
from stdc.results.shapes import Shape, check
from stdc.results.stage_costs import StageCost

#: Tolerance between a stored IoU and the one recomputed from the confusion matrix.
_SAME = 1e-9


#: Kinds of datasets, in words.
DATASETS = {
    "synthetic": "a generated mini-Cityscapes",
    "archives": "Cityscapes archives",
    "folder": "a Cityscapes-format folder",
}


@dataclasses.dataclass(frozen=True)
class ReportStage:
    """What `report` reads of the configuration.

    Attributes:
        run: the sections of the run itself.
        dataset_kind: a key of `DATASETS`.
        given_weights: file or name of weights that were judged without a training; None where they were trained here.
        overlays: validation images whose prediction is shown.
        separator: between the two paths on a line of the lists.
        document: the file's content, for the page that shows it as a recipe.
    """

    run: ConfiguredRun
    dataset_kind: str
    given_weights: Optional[str]
    overlays: int
    separator: str
    document: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """The files of one seed. A file that a run may lack is None or empty; `judged` is `weights.json`."""

    seed: int
    metrics: Dict[str, Any]
    best: Optional[Dict[str, Any]]
    history: List[Dict[str, Any]]
    speed: Optional[Dict[str, Any]]
    provenance: Dict[str, Any]
    judged: Optional[Dict[str, Any]] = None

    @property
    def weights_record(self) -> Optional[Mapping[str, Any]]:
        """What is recorded of the file with weights that the training started from, or that was judged."""
        found: Optional[Mapping[str, Any]] = self.judged or self.provenance.get("start")
        return found

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
    """Results of one configuration.

    Attributes:
        stage: the report stage's configuration.
        manifest, manifest_sha256: of the dataset check.
        seeds: one result per seed.
        costs: what each stage took; empty where it was not measured.
        files: (path relative to the results folder, what it holds) of the files a page can link to.
        command: words of the command that started the run; empty where it is not known.
    """

    stage: ReportStage
    manifest: Dict[str, Any]
    manifest_sha256: str
    seeds: Sequence[SeedResult]
    costs: Sequence[StageCost] = ()
    files: Sequence[Tuple[str, str]] = ()
    command: Sequence[str] = ()

    def evidence(self) -> Evidence:
        """What the verdict is made from."""
        return evidence_of_results(
            self.stage.run,
            dataset_kind=self.stage.dataset_kind,
            manifest=self.manifest,
            given_weights=self.stage.given_weights,
            micro_batch=self._micro_batch(),
            seeds=[
                SeedMetrics(result.seed, result.metrics, result.best, result.weights_record) for result in self.seeds
            ],
        )

    def _micro_batch(self) -> Optional[int]:
        """The least images per forward pass of a seed whose devices took several per step; None where none did."""
        schedule = self.stage.run.recipe.schedule
        found = []
        for seed in self.seeds:
            run = (seed.provenance or {}).get("identity") or {}
            found.append(schedule.images_per_pass(int(run.get("world_size") or 1), run.get("micro_batch")))
        return min((images for images in found if images is not None), default=None)


def require_folder(folder: Path) -> None:
    """A mistyped name is told as such, and not as a missing file below it.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a results folder, such as results/mini")


def read_report_stage(path: Path) -> ReportStage:
    """The configuration of the report stage.

    Raises:
        InputError: the file is unreadable, or a section is missing or of the wrong kind.
    """
    return report_stage(read_json(path), str(path))


def report_stage(document: Any, name: str) -> ReportStage:
    """The same of a document that was read already; `name` is its file's, for messages.

    Raises:
        InputError: a section is missing or of the wrong kind.
    """
    check(name, document, documents.CONFIG, "let Snakemake write the stage's configuration again")
    if not document["seeds"]:
        raise InputError(f"{name}: seeds: empty; at least one is needed")
    try:
        run = configured_run(document)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    given = document.get("weights")
    return ReportStage(
        run=run,
        dataset_kind=document["dataset_kind"],
        given_weights=None if given is None else str(given),
        overlays=int(document["report"].get("overlays") or 0),
        separator=str(document["data"].get("separator") or ","),
        document=document,
    )


def read_dataset_manifest(path: Path) -> Dict[str, Any]:
    """The dataset's manifest.

    Raises:
        InputError: the file is unreadable or no manifest.
    """
    manifest: Dict[str, Any] = read_json(path)
    check(path, manifest, documents.MANIFEST, "run check_dataset again")
    return manifest


def read_seed(folder: Path, seed: int) -> SeedResult:
    """The results of one seed. Only `metrics.json` has to be there.

    Raises:
        InputError: it is missing, or a file is damaged.
    """
    best = folder / "metrics_best.json"
    return SeedResult(
        seed=seed,
        metrics=read_metrics(folder / "metrics.json"),
        best=read_metrics(best) if os.path.lexists(best) else None,
        history=read_events(folder / "history.jsonl"),
        speed=_optional(folder / "speed.json", documents.SPEED, "run measure_speed again"),
        provenance=_optional(folder / "provenance.json", documents.PROVENANCE, "run train again") or {},
        judged=_optional(folder / "weights.json", documents.WEIGHTS, "run import_weights again"),
    )


def read_metrics(path: Path) -> Dict[str, Any]:
    """A `metrics.json`, its classes in the order of its confusion matrix.

    A file's keys are sorted by name, its matrix is by train id.

    Raises:
        InputError: the file is unreadable or of another shape, or its IoU do not follow from its matrix.
    """
    metrics: Dict[str, Any] = read_json(path)
    advice = "run evaluate again"
    check(path, metrics, documents.METRICS, advice)
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
    if not os.path.lexists(path):
        return []
    lines = read_text(path, "a history").split("\n")
    events = []
    for position, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{path}: line {position} is not JSON; run train again") from None
        check(f"{path}: line {position}", event, documents.EVENT, "run train again")
        events.append(event)
    return events


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
    # A link to nowhere counts as a file that is there, so that reading it names the broken link.
    if not os.path.lexists(path):
        return None
    document: Dict[str, Any] = read_json(path)
    check(path, document, shape, advice)
    return document


def main_protocol(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the first figures of a `metrics.json` were evaluated."""
    protocol: Mapping[str, Any] = metrics["protocol"]
    return protocol
