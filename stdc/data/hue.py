"""Turning the hue of a picture exactly as Pillow's HSV pictures do, in less than half of the time.

Pillow computes hue, saturation and back in floats, pixel by pixel. But each of these values depends on two or three
8-bit numbers, so tables take the place of the floats. One step stays arithmetic: the middle one of the three colors
depends on hue, saturation and value at once. tests/unit/test_hue.py compares all 2**24 colors.
"""

from __future__ import annotations

import functools
from typing import List, NamedTuple, Tuple

import cv2
import numpy as np
from PIL import Image

_LEVELS = np.arange(256)

#: By sector of the circle of hues: the numbers (0 red, 1 green, 2 blue) of the highest, middle and lowest color.
_SECTORS = np.array([(0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 1, 0), (2, 0, 1), (0, 2, 1)])


class _Tables(NamedTuple):
    """What Pillow computes, by the 8-bit numbers that it depends on.

    Attributes:
        hue: (6, 256, 256): by the order of the colors (see `_order`), the highest less the lowest, and the distance of
            the two that are not the highest.
        saturation: (256, 256): by the highest and the lowest color.
        lowest: (256, 256): the lowest color, by saturation and value.
        middle: (256, 256), float32: the middle color over the value, by hue and saturation.
        is_highest, is_lowest: (3, 256): by color and hue, 255 where the color is that.
    """

    hue: np.ndarray
    saturation: np.ndarray
    lowest: np.ndarray
    middle: np.ndarray
    is_highest: np.ndarray
    is_lowest: np.ndarray


def turn_hue(image: np.ndarray, amount: float) -> np.ndarray:
    """Turn the hue of a picture.

    Args:
        image: (H, W, 3), uint8, red-green-blue.
        amount: in 1/256 of a full turn.
    Returns:
        (H, W, 3), uint8: what Pillow makes of a picture converted to HSV, with `amount` added to its hue, and back.
    """
    tables = _tables()
    red, green, blue = cv2.split(np.ascontiguousarray(image))
    value = cv2.max(cv2.max(red, green), blue)
    least = cv2.min(cv2.min(red, green), blue)
    order, distance = _order(red, green, blue, value)
    hue = _look_up(tables.hue, distance, cv2.subtract(value, least), order)
    saturation = _look_up(tables.saturation, least, value)
    # PaddleSeg stores the float sum in 8 bits, which rounds it toward zero and wraps it around the circle of hues.
    hue = cv2.LUT(hue, np.array([int(level + amount) & 255 for level in range(256)], np.uint8))
    lowest = _look_up(tables.lowest, value, saturation)
    middle = cv2.multiply(value, _look_up(tables.middle, saturation, hue), dtype=cv2.CV_8U)
    colors: List[np.ndarray] = []
    for is_highest, is_lowest in zip(tables.is_highest, tables.is_lowest):
        color = middle.copy()
        cv2.copyTo(value, cv2.LUT(hue, is_highest), color)
        cv2.copyTo(lowest, cv2.LUT(hue, is_lowest), color)
        colors.append(color)
    return cv2.merge(colors)


def _order(red: np.ndarray, green: np.ndarray, blue: np.ndarray, value: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Which color is the highest (of equal ones red, then green), and how the other two stand to each other.

    Returns:
        Twice the number of the highest color, plus 1 where the second of the other two is above the first; and the
        distance of the two. They are (green, blue) beside red, (blue, red) beside green, (red, green) beside blue.
    """
    first, second, order = red.copy(), green.copy(), np.full_like(red, 4)
    for number, color, one, other in ((1, green, blue, red), (0, red, green, blue)):
        is_highest = cv2.compare(color, value, cv2.CMP_EQ)
        cv2.copyTo(one, is_highest, first)
        cv2.copyTo(other, is_highest, second)
        cv2.copyTo(np.full_like(red, 2 * number), is_highest, order)
    above = cv2.bitwise_and(cv2.compare(second, first, cv2.CMP_GT), 1)
    return cv2.add(order, above), cv2.absdiff(first, second)


def _look_up(table: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    """Entries of a table by two or three 8-bit numbers, those of its last axis first."""
    if len(indices) == 2:
        places = cv2.merge(indices).view("<u2")
    else:
        places = cv2.merge((*indices, np.zeros_like(indices[0]))).view("<u4")
    return np.take(table, places[..., 0], mode="clip")


@functools.lru_cache(maxsize=1)
def _tables() -> _Tables:
    high, low = np.meshgrid(_LEVELS, _LEVELS, indexing="ij")
    # Pillow's way back, from its Convert.c: floats of 32 bits, but the products of three of them in 64.
    turns = _LEVELS * 6.0 / 255.0
    sectors = turns.astype(int)
    within = (turns - sectors).astype(np.float32)[:, None]
    share = (_LEVELS / 255.0).astype(np.float32)
    rising = 1.0 - share * (1.0 - within.astype(np.float64))
    falling = 1.0 - (share * within).astype(np.float64)
    middle = np.where((sectors % 2 == 0)[:, None], rising, falling)
    lowest = np.floor(_LEVELS * (1.0 - share.astype(np.float64))[:, None] + 0.5)
    colors = _SECTORS[sectors % 6].T  # (3, 256)
    is_highest, is_lowest = (255 * (np.arange(3)[:, None] == colors[place]) for place in (0, 2))
    return _Tables(
        hue=_hue_table(),
        saturation=_to_hsv(high, low, low)[..., 1].copy(),
        lowest=lowest.astype(np.uint8),
        middle=middle.astype(np.float32),
        is_highest=is_highest.astype(np.uint8),
        is_lowest=is_lowest.astype(np.uint8),
    )


def _hue_table() -> np.ndarray:
    """Pillow's hue of one color for each entry: the hue depends on differences of colors alone."""
    table = np.zeros((6, 256, 256), np.uint8)
    spread, distance = np.meshgrid(_LEVELS, _LEVELS, indexing="ij")
    lowest = 255 - spread
    # One of the two that are not the highest is the lowest. Distances above the spread do not occur.
    higher = np.minimum(lowest + distance, 255)
    for highest in range(3):
        others = ((highest + 1) % 3, (highest + 2) % 3)
        for second_is_above in range(2):
            color = [np.full_like(lowest, 255)] * 3
            color[others[second_is_above]], color[others[1 - second_is_above]] = higher, lowest
            table[2 * highest + second_is_above] = _to_hsv(*color)[..., 0]
    return table


def _to_hsv(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.stack((red, green, blue), axis=-1).astype(np.uint8))
    return np.asarray(picture.convert("HSV"))
