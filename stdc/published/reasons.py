"""Why a run is not comparable with a published figure.

A figure is compared only with a run of the same data, network, evaluation protocol and training recipe. Each condition
that fails is one reason, with the key of the configuration that would remove it. Both the forecast and the verdict ask
here.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, NamedTuple, Sequence

from stdc.presets import PRESETS
from stdc.published.evidence import TRAIN_FRAMES, VAL_FRAMES, Evidence, protocol_key
from stdc.published.figures import Figure, Reference
from stdc.recipe import TrainRecipe
from stdc.units import size_text

#: Recipe keys that decide speed or the last bits, not what is learned.
_KERNEL_KEYS = ("cudnn_exhaustive_search", "cudnn_batchnorm_spatial_persistent", "deterministic")

#: Keys of the recipe that a published figure states for itself.
_CLAIMED_KEYS = ("preset", "iterations", "global_batch", "crop_height", "crop_width")


class Reason(NamedTuple):
    """One condition that fails.

    Attributes:
        text: what differs, in words.
        change: the key and value that would remove it; empty where no key can.
    """

    text: str
    change: str = ""


def compared_weights(evidence: Evidence, figure: Figure) -> str:
    """Which weights a figure is compared with: the best only where its source took the best, and there are any."""
    return "best" if figure.weights == "best" and evidence.has_best else "final"


def reasons_against(evidence: Evidence, figure: Figure, reference: Reference) -> List[Reason]:
    """All reasons, in the order data, network, start, evaluation, recipe; empty where the two are comparable."""
    found = [*_data(evidence), *_network(evidence, figure)]
    if evidence.given_weights is None:
        found += _start(evidence, figure, reference)
    found += _evaluation(evidence, figure)
    if evidence.given_weights is not None:
        return [*found, *_given_weights(evidence.given_weights, figure)]
    if figure.never_compared:
        return [*found, Reason(figure.never_compared)]
    return [*found, *_recipe(evidence, figure)]


def is_figure_of(evidence: Evidence, figure: Figure) -> bool:
    """Whether the weights that were judged are the very ones that the figure was published with."""
    return evidence.given_weights is not None and evidence.given_weights == figure.published_with


def _given_weights(name: str, figure: Figure) -> List[Reason]:
    if name == figure.published_with:
        return [Reason(figure.never_compared)] if figure.never_compared else []
    return [
        Reason(
            "how these weights were trained is not known here: a figure is compared with a training of the same "
            "recipe, or with the weights that it was published with"
        )
    ]


def _data(evidence: Evidence) -> List[Reason]:
    dataset = evidence.dataset
    counts = sorted({images for entry in evidence.evaluations.get("final", ()) for images in entry.images})
    if dataset.kind == "synthetic":
        shown = f"{counts[0]} generated images" if counts else "generated images"
        return [
            Reason(
                f"evaluated on {shown}, not on the {VAL_FRAMES} validation images of Cityscapes",
                "dataset: the folder of the full Cityscapes",
            )
        ]
    found = []
    official = {"train": TRAIN_FRAMES, "val": VAL_FRAMES}
    if dataset.frames is not None and dict(dataset.frames) != official:
        found.append(
            Reason(
                f"the dataset is not the full Cityscapes: {dataset.frames['train']} training and "
                f"{dataset.frames['val']} validation frames instead of {TRAIN_FRAMES} and {VAL_FRAMES}",
                "dataset: the folder of the full Cityscapes",
            )
        )
    elif dataset.expected != "cityscapes":
        found.append(
            Reason(
                "the dataset was not checked against the official counts by city (set data.expect: cityscapes)",
                "data.expect: cityscapes",
            )
        )
    found += [Reason(sentence) for sentence in dataset.repeated]
    if dataset.train_subset is not None:
        found.append(
            Reason(
                f"trained on a subset of {dataset.train_subset} frames (data.subset.train)", "data.subset.train: null"
            )
        )
    if dataset.frames is None or dataset.frames["val"] == VAL_FRAMES:
        found += [
            Reason(f"evaluated on {images} of {VAL_FRAMES} validation images", "data.subset.val: null")
            for images in counts
            if images != VAL_FRAMES
        ]
    if dataset.absent_classes:
        found.append(Reason(f"the mean leaves out classes that do not occur: {', '.join(dataset.absent_classes)}"))
    return found


def _network(evidence: Evidence, figure: Figure) -> List[Reason]:
    found = []
    backbone = evidence.network.backbone
    if backbone != figure.backbone:
        found.append(
            Reason(
                f"another network: {backbone} here, {figure.backbone} published", f"model.backbone: {figure.backbone}"
            )
        )
    # The authors' torch code counts the padding at image borders, PaddleSeg does not.
    counted, published = evidence.network.pool_counts_padding, figure.recipe.preset == "authors"
    if not figure.never_compared and counted != published:
        found.append(
            Reason(
                "average pooling at image borders differs: model.pool_counts_padding is "
                f"{_yaml(counted)}, published with {_yaml(published)}",
                f"model.pool_counts_padding: {_yaml(published)}",
            )
        )
    return found


def _start(evidence: Evidence, figure: Figure, reference: Reference) -> List[Reason]:
    start = evidence.start
    backbone = reference.backbones[evidence.network.backbone]
    if start.whole:
        return [
            Reason(
                "the training started from a whole trained network (model.init_from), the published one did not",
                "model.init_from.source: null",
            )
        ]
    if figure.recipe.pretrained and start.source is None:
        return [
            Reason(
                "the backbone started from random weights, the published one from ImageNet weights",
                f"model.pretrained.source: the ImageNet weights of the backbone, such as {backbone.started_from[0]}",
            )
        ]
    if figure.recipe.pretrained and start.source in backbone.not_started_from:
        return [
            Reason(
                f"the backbone started from {start.source}, another ImageNet training than the published one's",
                f"model.pretrained.source: {backbone.started_from[0]}",
            )
        ]
    if start.source is not None and not figure.recipe.pretrained:
        return [
            Reason(
                "the backbone started from given weights, the published one from random weights",
                "model.pretrained.source: null",
            )
        ]
    return []


def _evaluation(evidence: Evidence, figure: Figure) -> List[Reason]:
    wanted = figure.protocol
    key = protocol_key(wanted.scales, wanted.flip)
    text = protocol_text(wanted.scales, wanted.flip)
    entry = evidence.at("final", key)
    if entry is None:
        scales = ", ".join(f"{scale:g}" for scale in wanted.scales)
        return [
            Reason(
                f"not evaluated at the published protocol: {text}{'' if wanted.flip else ', no flip'}",
                f"evaluate.protocols: one with scales: [{scales}], flip: {_yaml(wanted.flip)}",
            )
        ]
    found = []
    # Generated images have a size of their own; that they are generated is reason enough.
    if evidence.dataset.kind != "synthetic" and entry.size_known and entry.size != wanted.size:
        found.append(Reason(f"labels of {size_text(entry.size)} pixels, {size_text(wanted.size)} published"))
    # "float32 (tf32)" is float32 with shortened products, as the card has it: that is a caveat, not a reason.
    if wanted.precision and entry.precision and entry.precision.split(" ")[0] != wanted.precision:
        found.append(Reason(f"evaluated in {entry.precision}, published in {wanted.precision}"))
    library = entry.backend.split(" ")[0]
    if library != "paddle":
        found.append(
            Reason(
                f"evaluated with {library}; published figures are compared with what Paddle predicts",
                "evaluate.backend: paddle",
            )
        )
    weights = compared_weights(evidence, figure)
    compared = evidence.at(weights, key)
    if compared is None or not compared.complete:
        found.append(Reason(f"no mIoU of the {weights} weights of every seed at this protocol"))
    return found


def _recipe(evidence: Evidence, figure: Figure) -> List[Reason]:
    claim, ours = figure.recipe, evidence.recipe
    found = []
    if ours.preset != claim.preset:
        found.append(
            Reason(
                f"another recipe: train.preset {ours.preset}, published with {claim.preset}",
                f"train.preset: {claim.preset}",
            )
        )
    if ours.schedule.iterations != claim.iterations:
        found.append(
            Reason(
                f"{ours.schedule.iterations} iterations instead of {claim.iterations}",
                f"train.iterations: {claim.iterations}",
            )
        )
    if ours.schedule.global_batch != claim.global_batch:
        found.append(
            Reason(
                f"{ours.schedule.global_batch} images per step instead of {claim.global_batch} (train.global_batch)",
                f"train.global_batch: {claim.global_batch}",
            )
        )
    if evidence.micro_batch is not None:
        found.append(
            Reason(
                f"batch norm and the mining of hard pixels saw {evidence.micro_batch} images per forward pass, not all "
                "that a device had in a step",
                "hardware.micro_batch: null, and more devices or such with more memory",
            )
        )
    crop = (ours.augmentation.crop_height, ours.augmentation.crop_width)
    if claim.crop is not None and crop != claim.crop:
        found.append(
            Reason(
                f"crops of {size_text(crop)} instead of {size_text(claim.crop)}",
                f"train.crop_height: {claim.crop[0]}, train.crop_width: {claim.crop[1]}",
            )
        )
    # Between two presets nearly every value differs; that the preset is another one says it in one line.
    return found if ours.preset != claim.preset else [*found, *_values_beside_the_preset(ours)]


def _values_beside_the_preset(ours: TrainRecipe) -> List[Reason]:
    # A key that no preset governs, such as `amp`, came later than the published recipes: they did without.
    defaults = {field.name: field.default for part in ours.parts() for field in dataclasses.fields(part)}
    preset = {**defaults, **PRESETS[ours.preset]}
    return [
        Reason(
            f"train.{key}: {value} here, {_plain(preset[key])} in the preset",
            f"train.{key}: {'null' if key in PRESETS[ours.preset] else preset[key]}",
        )
        for key, value in ours.as_dict().items()
        if key not in _KERNEL_KEYS and key not in _CLAIMED_KEYS and value != _plain(preset[key])
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _yaml(value: bool) -> str:
    return "true" if value else "false"


def protocol_text(scales: Sequence[float], flip: bool) -> str:
    """A protocol in words: "scale 0.75, 1, 1.25, flip"."""
    return f"scale {', '.join(f'{scale:g}' for scale in scales)}{', flip' if flip else ''}"


def rows_of(evidence: Evidence, reference: Reference) -> List[Dict[str, Any]]:
    """One row per published figure, in the order of the table: what it is, and what speaks against a comparison.

    This is the forecast; the verdict is the same rows with what was measured.
    """
    return [_row(evidence, figure, reference) for figure in reference.figures]


def _row(evidence: Evidence, figure: Figure, reference: Reference) -> Dict[str, Any]:
    reasons = reasons_against(evidence, figure, reference)
    return {
        "id": figure.id,
        "title": reference.sources[figure.source].title,
        "url": reference.sources[figure.source].url,
        "framework": figure.framework,
        "backbone": figure.backbone,
        "preset": figure.recipe.preset,
        "protocol": {
            "scales": list(figure.protocol.scales),
            "flip": figure.protocol.flip,
            "size": list(figure.protocol.size),
        },
        "published": figure.value,
        "published_weights": figure.weights,
        "tolerance": reference.same_weights_points if is_figure_of(evidence, figure) else figure.tolerance_points,
        "weights": compared_weights(evidence, figure),
        "reasons": [reason.text for reason in reasons],
        "changes": [reason.change for reason in reasons if reason.change],
        "notes": list(figure.notes),
        "ever_comparable": figure.never_compared is None,
    }


def nearest(rows: Sequence[Dict[str, Any]], evidence: Evidence) -> Dict[str, Any]:
    """The figure with the fewest obstacles to a comparison: of the same network, then of the same preset.

    The first of equals, which in the table is the figure that this project sets out to reproduce.
    """
    return min(
        rows,
        key=lambda row: (
            not row["ever_comparable"],
            row["backbone"] != evidence.network.backbone,
            row["preset"] != evidence.recipe.preset,
            len(row["reasons"]),
        ),
    )
