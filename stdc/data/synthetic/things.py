"""What a scene is made of: labeled outlines with colors, and details that are painted but not labeled."""

from __future__ import annotations

import dataclasses
from typing import List, Sequence, Tuple

import numpy as np

from stdc.data.synthetic.camera import Point

Color = Tuple[float, float, float]


@dataclasses.dataclass
class Detail:
    """A patch of color inside or beside a thing, without a label of its own.

    Attributes:
        outline: (column, row) points, pixels.
        color: RGB, 0 to 255.
        opacity: 0 to 1; shadows let the ground through.
    """

    outline: Sequence[Point]
    color: Color
    opacity: float = 1.0


@dataclasses.dataclass
class Thing:
    """One labeled polygon.

    Attributes:
        label: a Cityscapes label name, `persongroup` and the like included.
        outline: (column, row) points, pixels; may reach out of the image.
        depth: distance, meters: far things are drawn first, and paler.
        color: RGB, 0 to 255.
        grain: strength of the fine noise, gray levels.
        blotch: strength of the coarse noise, gray levels.
        blotch_size: size of the coarse noise, pixels.
        fade: brightness at the outline's bottom relative to its top.
        under: painted before the thing, for example its shadow.
        details: painted onto it.
    """

    label: str
    outline: Sequence[Point]
    depth: float
    color: Color
    grain: float = 5.0
    blotch: float = 6.0
    blotch_size: float = 12.0
    fade: float = 1.0
    under: List[Detail] = dataclasses.field(default_factory=list)
    details: List[Detail] = dataclasses.field(default_factory=list)


class Dice:
    """Random draws of one scene."""

    def __init__(self, generator: np.random.RandomState) -> None:
        self.generator = generator

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`, all equally likely."""
        return float(self.generator.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.generator.uniform() < probability)

    def one_of(self, values: Sequence[Color]) -> Color:
        """One of the colors, all equally likely."""
        return values[int(self.generator.randint(len(values)))]

    def count(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return int(self.generator.randint(low, high + 1))

    def near(self, color: Color, spread: float) -> Color:
        """A color not far from `color`; brightness and each channel vary."""
        shift = self.between(-spread, spread)
        red, green, blue = (
            float(np.clip(channel + shift + self.between(-spread, spread) / 3, 0, 255)) for channel in color
        )
        return red, green, blue


def blob(center: Point, radius: Point, dice: Dice, corners: int = 14, rough: float = 0.18) -> List[Point]:
    """A rough ellipse, for crowns and bushes."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return [
        (
            center[0] + radius[0] * np.cos(angle) * (1 + dice.between(-rough, rough)),
            center[1] + radius[1] * np.sin(angle) * (1 + dice.between(-rough, rough)),
        )
        for angle in angles
    ]


def ellipse(center: Point, radius: Point, corners: int = 12) -> List[Point]:
    """A smooth ellipse, for wheels, heads and shadows."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return [(center[0] + radius[0] * np.cos(angle), center[1] + radius[1] * np.sin(angle)) for angle in angles]


def box(left: float, right: float, bottom: float, top: float) -> List[Point]:
    """An upright rectangle, meters: (right, up) points."""
    return [(left, bottom), (right, bottom), (right, top), (left, top)]
