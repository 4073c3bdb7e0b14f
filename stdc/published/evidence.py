"""What is known of a run when it is held against published figures: as it is planned, or as it came out.

The forecast and the verdict fill in the same classes, one from a configuration alone and the other from what a finished
run left, and the same function (`stdc.published.reasons`) reads them. So the two cannot disagree.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from stdc import recipe
from stdc.data import cityscapes
from stdc.published.configured_run import ConfiguredRun, Start
from stdc.units import Size

#: Frames of the official splits.
TRAIN_FRAMES = sum(cityscapes.CITIES["train"].values())
VAL_FRAMES = sum(cityscapes.CITIES["val"].values())


#: Value of a `sha256` key that believes the first download.
FIRST_SEEN = "first-seen"

#: What tells protocols apart: scales in ascending order, and mirroring.
ProtocolKey = Tuple[Tuple[float, ...], bool]


def protocol_key(scales: Sequence[float], flip: bool) -> ProtocolKey:
    """The order in which scales are averaged does not matter."""
    return tuple(sorted(float(scale) for scale in scales)), bool(flip)


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What was, or will be, trained and evaluated on.

    Attributes:
        kind: "synthetic" (generated), "folder" or "archives".
        expected: what the dataset check holds the folder against: "any" or "cityscapes".
        frames: number of frames by split; None where nobody has looked yet.
        train_subset, val_subset: `data.subset`; None where a split is used whole.
        label_source: "labelIds" or "polygons"; None where nobody has looked yet.
        repeated: what the manifest says of pictures that stand in the dataset twice, one sentence per kind.
        absent_classes: trained classes that occur nowhere in the evaluation.
    """

    kind: str
    expected: str
    frames: Optional[Mapping[str, int]] = None
    train_subset: Optional[int] = None
    val_subset: Optional[int] = None
    label_source: Optional[str] = None
    repeated: Tuple[str, ...] = ()
    absent_classes: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class EvaluatedProtocol:
    """Validation images under one protocol, with one kind of weights.

    Attributes:
        name: the protocol's, from the configuration.
        scales, flip: what the image is resized by, and whether it is seen mirrored too.
        size: (height, width) of the labels; None where images differ in size, or where nobody has looked yet.
        size_known: whether `size` was looked at.
        precision: of the arithmetic, for example "float32" or "float32 (tf32)".
        images: how many images, a number for each that occurs among the seeds; empty where it is not known yet.
        scores: mIoU in percent, one per seed; empty before anything is measured.
        complete: whether every seed has a mIoU, or will have one.
        backend: what computes, for example "paddle 3.3.1 cpu".
    """

    name: str
    scales: Tuple[float, ...]
    flip: bool
    size: Optional[Size]
    size_known: bool
    precision: str
    images: Tuple[int, ...]
    scores: Tuple[float, ...] = ()
    complete: bool = True
    backend: str = "paddle"

    @property
    def key(self) -> ProtocolKey:
        """What tells the protocol apart."""
        return protocol_key(self.scales, self.flip)


class WeightsFile(NamedTuple):
    """The file with weights that a run took, as the run recorded it.

    Attributes:
        sha256: of the file.
        first_seen: whether nothing but the first download speaks for that checksum.
    """

    sha256: str
    first_seen: bool


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything that decides which published figures a run is comparable with.

    Attributes:
        name: the configuration's name.
        seeds: of the trainings.
        start, recipe: of the training; they say nothing where the weights were given.
        given_weights: file or name of weights that were judged without a training; None where they were trained here.
        micro_batch: images per forward pass, where a device takes its share of a step in several; else None.
        weights_file: what the training started from, or what was judged; None where no run has recorded it.
        evaluations: by kind of weights, "final" or "best", in the order of the configuration.
    """

    name: str
    seeds: Tuple[int, ...]
    dataset: DatasetFacts
    network: recipe.Network
    start: Start
    recipe: recipe.TrainRecipe
    evaluations: Mapping[str, Tuple[EvaluatedProtocol, ...]]
    given_weights: Optional[str] = None
    micro_batch: Optional[int] = None
    weights_file: Optional[WeightsFile] = None

    @property
    def has_best(self) -> bool:
        """Whether every seed has best weights by validation mIoU."""
        return "best" in self.evaluations

    def at(self, weights: str, key: ProtocolKey) -> Optional[EvaluatedProtocol]:
        """The evaluation of one kind of weights under a protocol, or None."""
        return next((entry for entry in self.evaluations.get(weights, ()) if entry.key == key), None)


@dataclasses.dataclass(frozen=True)
class SeedMetrics:
    """What evaluation says of one trained seed: `metrics.json`, and `metrics_best.json` where there is one.

    `weights` is the record of the file that was taken: `start` of `provenance.json`, or `weights.json` of a judgment.
    """

    seed: int
    metrics: Mapping[str, Any]
    best: Optional[Mapping[str, Any]] = None
    weights: Optional[Mapping[str, Any]] = None


def evidence_of_results(
    run: ConfiguredRun,
    *,
    dataset_kind: str,
    manifest: Mapping[str, Any],
    seeds: Sequence[SeedMetrics],
    given_weights: Optional[str] = None,
    micro_batch: Optional[int] = None,
) -> Evidence:
    """What a finished run shows.

    Args:
        run: its configuration.
        dataset_kind: see `DatasetFacts`.
        manifest: `manifest.json` of the dataset check.
        seeds: at least one.
        given_weights, micro_batch: see `Evidence`.
    Raises:
        ValueError: no seed.
    """
    if not seeds:
        raise ValueError(f"{run.name}: no seed")
    metrics = [metrics for seed in seeds for metrics in (seed.metrics, seed.best) if metrics is not None]
    return Evidence(
        name=run.name,
        seeds=tuple(seed.seed for seed in seeds),
        dataset=DatasetFacts(
            kind=dataset_kind,
            expected=str(manifest.get("expected")),
            frames={split: _frames(manifest, split) for split in ("train", "val")},
            train_subset=run.subset.get("train"),
            val_subset=run.subset.get("val"),
            label_source=manifest.get("label_source"),
            repeated=repeated_pictures(manifest),
            absent_classes=tuple(
                sorted({key for one in metrics for key, iou in (one.get("class_iou") or {}).items() if iou is None})
            ),
        ),
        network=run.network,
        start=run.start,
        recipe=run.recipe,
        evaluations=_evaluations(seeds),
        given_weights=given_weights,
        micro_batch=micro_batch,
        # All seeds take one file; `stdc.published.agreement` refuses others.
        weights_file=_weights_file(seeds[0].weights),
    )


def _weights_file(record: Optional[Mapping[str, Any]]) -> Optional[WeightsFile]:
    if record is None or not record.get("sha256"):
        return None
    return WeightsFile(str(record["sha256"]), record.get("checksum") == FIRST_SEEN)


def repeated_pictures(manifest: Mapping[str, Any]) -> Tuple[str, ...]:
    """Pictures of the same bytes under several names, within a split or in both; one sentence for each kind."""
    holders: Dict[str, Dict[str, List[str]]] = {}
    for entry in manifest.get("frames") or ():
        by_split = holders.setdefault(entry["image"]["sha256"], collections.defaultdict(list))
        by_split[entry["split"]].append(entry["frame"])
    sentences = []
    for split, word in (("train", "training"), ("val", "validation")):
        twice = [by_split[split] for by_split in holders.values() if len(by_split.get(split, ())) > 1]
        if twice:
            spare = sum(len(frames) - 1 for frames in twice)
            first = min(twice)
            sentences.append(
                f"{spare} of the {word} pictures {'repeats' if spare == 1 else 'repeat'} another one "
                f"(first: {first[1]} is {first[0]})"
            )
    both = [by_split for by_split in holders.values() if by_split.get("train") and by_split.get("val")]
    if both:
        count = sum(len(by_split["val"]) for by_split in both)
        first_pair = min((by_split["val"][0], by_split["train"][0]) for by_split in both)
        sentences.append(
            f"{count} of the validation pictures {'was' if count == 1 else 'were'} trained on "
            f"(first: {first_pair[0]} is {first_pair[1]})"
        )
    return tuple(sentences)


def _evaluations(seeds: Sequence[SeedMetrics]) -> Dict[str, Tuple[EvaluatedProtocol, ...]]:
    documents = {"final": [seed.metrics for seed in seeds]}
    best = [seed.best for seed in seeds if seed.best is not None]
    if len(best) == len(seeds):
        documents["best"] = best
    return {weights: tuple(_merged(found)) for weights, found in documents.items()}


def _merged(documents: Sequence[Mapping[str, Any]]) -> List[EvaluatedProtocol]:
    """The protocols of the first document, each with the values of all documents."""
    merged = []
    for first in _protocols(documents[0]):
        key = _key_of(first)
        entries = [next((one for one in _protocols(other) if _key_of(one) == key), None) for other in documents]
        found = [entry for entry in entries if entry is not None]
        scores = tuple(100 * float(entry["miou"]) for entry in found if entry.get("miou") is not None)
        complete = len(scores) == len(documents)
        sizes = {tuple(entry["protocol"].get("size") or ()) for entry in found}
        size = sizes.pop() if len(sizes) == 1 else ()
        protocol = first["protocol"]
        merged.append(
            EvaluatedProtocol(
                name=str(protocol.get("name")),
                scales=tuple(protocol.get("scales") or ()),
                flip=bool(protocol.get("flip")),
                size=(int(size[0]), int(size[1])) if len(size) == 2 else None,
                size_known=True,
                precision=str(protocol.get("precision") or ""),
                images=tuple(sorted({int(entry.get("images", 0)) for entry in found})),
                scores=scores if complete else (),
                complete=complete,
                backend=str(protocol.get("backend") or "paddle"),
            )
        )
    return merged


def _protocols(metrics: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return metrics.get("protocols") or [metrics]


def _key_of(entry: Mapping[str, Any]) -> ProtocolKey:
    protocol = entry["protocol"]
    return protocol_key(protocol.get("scales") or (), bool(protocol.get("flip")))


def _frames(manifest: Mapping[str, Any], split: str) -> int:
    return int(((manifest.get("splits") or {}).get(split) or {}).get("frames", 0))
