"""One scene: what stands in it, in the order it is drawn, and its void regions."""

from __future__ import annotations

from typing import List, NamedTuple, Set, Tuple

import numpy as np

from stdc.data.synthetic import street, traffic
from stdc.data.synthetic.camera import Camera, Polygon
from stdc.data.synthetic.things import Dice, Thing

#: Classes that would be missing from small splits if left to chance; frames take turns at them.
_LARGE = ("bus", "truck", "train")
_TWO_WHEELERS = ("bicycle", "motorcycle")
_BARRIERS = ("wall", "fence")

#: Rows of the frame around the picture that Cityscapes leaves out of its region of interest, of 1024.
_ROI_BORDER = 5 / 1024


#: Outline of the hood: shares of the width, and of the height above the bottom.
_HOOD = ((0.12, 0.0), (0.22, 0.045), (0.35, 0.07), (0.5, 0.078), (0.65, 0.07), (0.78, 0.045), (0.88, 0.0))


class Piece(NamedTuple):
    """A thing and its polygon inside the image."""

    thing: Thing
    polygon: Polygon


class Scene(NamedTuple):
    """A street as polygons, before it is painted.

    Attributes:
        pieces: in the order in which they are drawn, far things first.
        haze: RGB that far things fade to, 0 to 255.
    """

    pieces: List[Piece]
    haze: Tuple[float, float, float]


def wanted_in(index: int, frames: int, dice: Dice) -> Set[str]:
    """Names of things that a frame must show, beside those that are drawn by chance.

    A split of ten frames or more shows every trained class; in a smaller one, a thing may be hidden behind another.
    """
    wanted = {"traffic light", "traffic sign"}
    for turn in (_LARGE, _TWO_WHEELERS, _BARRIERS):
        wanted |= set(turn) if frames < len(_LARGE) else {turn[index % len(turn)]}
    if dice.chance(0.3):
        wanted |= {_LARGE[dice.count(0, 2)], _TWO_WHEELERS[dice.count(0, 1)]}
    for name, probability in (("parked", 0.4), ("caravan", 0.06), ("trailer", 0.06)):
        if dice.chance(probability):
            wanted.add(name)
    # Groups alternate too, so that any two frames in a row show both.
    wanted.add("cargroup" if index % 2 else "persongroup")
    return wanted


def make_scene(height: int, width: int, index: int, frames: int, generator: np.random.RandomState) -> Scene:
    """A street scene.

    Args:
        height, width: of the image, pixels.
        index, frames: which frame of how many in its split, for the turns of `wanted_in`.
        generator: of this frame alone.
    """
    dice = Dice(generator)
    camera = Camera(height, width, dice.between(0.38, 0.46), dice.between(0.42, 0.58))
    wanted = wanted_in(index, frames, dice)
    # What runs along the street is covered by all that stands nearer to its middle, whatever the depths.
    layers = [
        street.ground(camera, dice),
        street.buildings(camera, dice),
        street.greenery(camera, dice),
        street.barriers(camera, dice, wanted),
        street.furniture(camera, dice, wanted)
        + traffic.vehicles(camera, dice, wanted)
        + traffic.people(camera, dice, wanted),
    ]
    # A stable sort: equal depths keep the order in which they were made.
    things = [thing for layer in layers for thing in sorted(layer, key=lambda thing: -thing.depth)]
    pieces = [Piece(thing, camera.cut(thing.outline)) for thing in things]
    pieces += void_pieces(height, width)
    return Scene([piece for piece in pieces if piece.polygon], things[0].color)


def void_pieces(height: int, width: int) -> List[Piece]:
    """The car that carries the camera, the border left by rectification, and what is out of the region of interest."""
    right, bottom = width - 1, height - 1
    thick = max(1, round(_ROI_BORDER * height))
    hood = [(round(share * right), bottom - round(rise * height)) for share, rise in _HOOD]
    gray = (60.0, 60.0, 60.0)
    regions = [
        ("ego vehicle", hood, (42.0, 44.0, 48.0)),
        ("rectification border", [(0, 0), (thick, 0), (thick, bottom), (0, bottom)], (0.0, 0.0, 0.0)),
        ("out of roi", [(0, 0), (right, 0), (right, thick), (0, thick)], gray),
        (
            "out of roi",
            [(0, bottom - thick), (right, bottom - thick), (right, bottom), (0, bottom)],
            (60.0, 60.0, 60.0),
        ),
        ("out of roi", [(right - thick, 0), (right, 0), (right, bottom), (right - thick, bottom)], gray),
    ]
    # Only the hood is seen; the other two are regions of a picture, not things in it.
    return [Piece(Thing(label, polygon, 0.0, color, 2, 3), polygon) for label, polygon, color in regions]
