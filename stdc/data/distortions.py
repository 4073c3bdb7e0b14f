"""Random changes of brightness, contrast, saturation and hue, as PaddleSeg and the authors make them."""

from __future__ import annotations

from typing import Callable, Dict, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from stdc.data.hue import turn_hue
from stdc.recipe import Augmentation

#: A change and its amount: "brightness", "contrast" or "saturation" with a factor, or "hue" with a turn in 1/256.
Distortion = Tuple[str, float]

#: Probability with which PaddleSeg's RandomDistort makes each kind of change (its `*_prob` defaults).
_PADDLESEG_DISTORT_PROBABILITY = 0.5


def draw_distortions(augmentation: Augmentation, generator: np.random.RandomState) -> Tuple[Distortion, ...]:
    """Draw the changes of color of one crop, in the order in which they are made."""
    uniform = generator.random_sample
    changes = [(kind, getattr(augmentation, kind)) for kind in ("brightness", "contrast", "saturation")]
    if augmentation.distort == "none":
        return ()
    if augmentation.distort == "authors":
        return tuple((kind, _factor(reach, uniform())) for kind, reach in changes)
    changes.append(("hue", augmentation.hue))
    order = sorted(range(len(changes)), key=[uniform() for _ in changes].__getitem__)
    drawn = []
    for kind, reach in (changes[place] for place in order):
        if uniform() < _PADDLESEG_DISTORT_PROBABILITY:
            share = uniform()
            drawn.append((kind, (2 * share - 1) * reach if kind == "hue" else _factor(reach, share)))
    return tuple(drawn)


def _factor(reach: float, share: float) -> float:
    lowest = max(1 - reach, 0.0)
    return lowest + share * (1 + reach - lowest)


def distort(image: np.ndarray, changes: Sequence[Distortion]) -> np.ndarray:
    """Change the colors of an image, one change after the other, rounding to 8 bits in between.

    Args:
        image: (H, W, 3), uint8.
    Returns:
        The same shape and type; the values are those of Pillow's `ImageEnhance` and of its HSV pictures.
    """
    for kind, amount in changes:
        image = _DISTORTIONS[kind](image, amount)
    return image


#: Every level, as a picture of one row: what Pillow makes of it is a table.
_EVERY_LEVEL = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(1, 256))


def _change_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.LUT(image, np.asarray(ImageEnhance.Brightness(_EVERY_LEVEL).enhance(factor)))


def _change_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    gray = np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("L"))
    # As Pillow's: every level is moved away from the mean gray, which is rounded.
    mean = int(int(gray.sum(dtype=np.int64)) / gray.size + 0.5)
    return cv2.LUT(image, np.asarray(Image.blend(Image.new("L", (256, 1), mean), _EVERY_LEVEL, factor)))


def _change_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(ImageEnhance.Color(Image.fromarray(np.ascontiguousarray(image))).enhance(factor))


_DISTORTIONS: Dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": _change_brightness,
    "contrast": _change_contrast,
    "saturation": _change_saturation,
    "hue": turn_hue,
}
