"""What is published of the network: figures, speeds, backbones, and where each was read."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Optional, Tuple

from stdc.units import Size

WEIGHTS = ("best", "last", "unknown")
SPEED_KINDS = ("training", "inference")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a figure was read."""

    title: str
    url: str
    read: str


@dataclasses.dataclass(frozen=True)
class PublishedProtocol:
    """How a figure was evaluated: `size` is (height, width) of the labels, `scales` what the image is resized by."""

    scales: Tuple[float, ...]
    flip: bool
    size: Size
    precision: Optional[str]


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is known of the training behind a figure. `preset` None: neither preset of `stdc.presets`."""

    preset: Optional[str]
    iterations: Optional[int]
    global_batch: Optional[int]
    crop: Optional[Size]
    pretrained: bool


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published validation mIoU, in percent.

    `published_with` names the weights (in the registry of weights) that were published together with it, or is None.
    """

    id: str
    source: str
    framework: str
    backbone: str
    value: float
    tolerance_points: float
    weights: str
    protocol: PublishedProtocol
    recipe: Claim
    never_compared: Optional[str]
    notes: Tuple[str, ...]
    published_with: Optional[str]


@dataclasses.dataclass(frozen=True)
class PublishedSpeed:
    """One published speed, for information."""

    id: str
    source: str
    backbone: str
    kind: str
    value: float
    unit: str
    device: str
    size: Size
    batch: int
    note: str


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What is published of a backbone.

    Attributes:
        parameters_millions, megaflops: size and cost of the ImageNet network, classifier included, for one image of
            224x224.
        stored_numbers: numbers in PaddleSeg's weights file of the whole segmentor, running statistics and heads that
            never run included.
        started_from: names of the ImageNet weights that the published segmentors started from.
        not_started_from: names of other ImageNet weights of the same backbone.
    """

    source: str
    parameters_millions: float
    megaflops: float
    stored_numbers: int
    started_from: Tuple[str, ...]
    not_started_from: Tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PublishedRecipe:
    """A whole recipe with published figures.

    Attributes:
        source: key of the sources.
        preset: that it is, with the schedule of `values`; None where `values` is all that is known.
        values: by keys of the section `train`, and `devices`.
    """

    source: str
    preset: Optional[str]
    values: Dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Everything in `reference.yaml`, in its order.

    Attributes:
        tolerance_points: what training again with nothing changed moves a figure by.
        same_weights_points: what evaluating the same weights again, with other arithmetic, moves a figure by.
    """

    tolerance_points: float
    same_weights_points: float
    sources: Dict[str, Source]
    backbones: Dict[str, Backbone]
    recipes: Dict[str, PublishedRecipe]
    figures: Tuple[Figure, ...]
    speeds: Tuple[PublishedSpeed, ...]
