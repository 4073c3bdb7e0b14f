"""Training augmentation: random scale, crop, flip and color, then normalization.

Two chains of steps:

* ``paddleseg`` (PaddleSeg 2.7, ``paddleseg/transforms``): scale, crop with padding, flip, color; OpenCV on float32.
* ``authors`` (github.com/MichaelFan01/STDC-Seg, ``transform.py``): color, flip, scale, crop after enlarging what is
  too small; Pillow on 8 bits, whose bilinear filter smooths when it shrinks.

Everything random is drawn first (`draw`), as plain numbers; `apply` is a pure function of image, label and draws, made
of `scaled_crop` and `distortions`. Given equal draws the result is PaddleSeg's, bit for bit (tests/parity/transforms).
"""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from stdc.data.distortions import Distortion, distort, draw_distortions
from stdc.data.scaled_crop import OPENCV, PILLOW, canvas_size, scaled_crop, scaled_size
from stdc.errors import InputError
from stdc.recipe import Augmentation
from stdc.units import size_text


class Draws(NamedTuple):
    """Everything random about one training crop.

    Attributes:
        scale: factor of the image's size.
        top, left: corner of the crop in the scaled (and padded or enlarged) image, pixels.
        flip: mirror left to right.
        distort: changes of color in the order they are made.
    """

    scale: float
    top: int
    left: int
    flip: bool
    distort: Tuple[Distortion, ...]


def scale_choices(augmentation: Augmentation) -> List[float]:
    """The scales that are drawn from; empty where the whole range is."""
    if augmentation.scale_min == augmentation.scale_max:
        return [augmentation.scale_min]
    if augmentation.scale_step == 0:
        return []
    # As PaddleSeg's ResizeStepScaling: both ends always belong to it.
    count = int((augmentation.scale_max - augmentation.scale_min) / augmentation.scale_step + 1)
    return [float(scale) for scale in np.linspace(augmentation.scale_min, augmentation.scale_max, count)]


def draw(augmentation: Augmentation, height: int, width: int, generator: np.random.RandomState) -> Draws:
    """Draw one crop of an image of (height, width).

    Only `generator.random_sample()` is called: its stream of numbers is the same in every NumPy.
    """
    uniform = generator.random_sample
    choices = scale_choices(augmentation)
    if choices:
        scale = choices[int(uniform() * len(choices))]
    else:
        scale = augmentation.scale_min + uniform() * (augmentation.scale_max - augmentation.scale_min)
    height, width = canvas_size(augmentation, *scaled_size(augmentation, height, width, scale))
    top = int(uniform() * (height - augmentation.crop_height + 1))
    left = int(uniform() * (width - augmentation.crop_width + 1))
    flip = uniform() < augmentation.flip_probability
    return Draws(scale, top, left, flip, draw_distortions(augmentation, generator))


def check_crop(augmentation: Augmentation, height: int, width: int) -> None:
    """Refuse a crop that would be padded at every scale for images of (height, width).

    Raises:
        InputError: names `train.crop_height` or `train.crop_width`.
    """
    if augmentation.small_image != "pad":
        return
    largest = scaled_size(augmentation, height, width, augmentation.scale_max)
    for key, crop, size in zip(
        ("crop_height", "crop_width"), (augmentation.crop_height, augmentation.crop_width), largest
    ):
        if crop > size:
            raise InputError(
                f"train.{key}: {crop} pixels, but an image of {size_text((height, width))} reaches only {size} at "
                f"train.scale_max {augmentation.scale_max}; lower train.{key} to {size} or less, raise "
                "train.scale_max, or enlarge such images by train.small_image: upscale"
            )


def apply(
    image: np.ndarray, label: np.ndarray, draws: Draws, augmentation: Augmentation
) -> Tuple[np.ndarray, np.ndarray]:
    """Make the training crop that `draws` describes.

    Args:
        image: (H, W, 3), uint8, red-green-blue; PaddleSeg's pipeline only cuts a window out of it, so a
            `stdc.data.frame_cache.Plane` does.
        label: (H, W), uint8; the same.
    Returns:
        The crop (crop_height, crop_width, 3), on the scale 0 to 255, still to be normalized, and its label
        (crop_height, crop_width), uint8. The crop is uint8, except for PaddleSeg's pipeline without change of color,
        which leaves the interpolated values as they are: float32.
    """
    if augmentation.pipeline != "paddleseg" or augmentation.small_image == "upscale":
        image, label = np.asarray(image), np.asarray(label)
    if augmentation.pipeline == "paddleseg":
        image, label = scaled_crop(
            image, label, augmentation, scale=draws.scale, corner=(draws.top, draws.left), filters=OPENCV
        )
        image, label = _flip(image, label, draws)
        # PaddleSeg passes through 8 bits here, rounding down, even where no color happens to be changed.
        if augmentation.distort != "none":
            image = distort(image.astype(np.uint8), draws.distort)
    else:
        if augmentation.distort != "none":
            image = distort(image, draws.distort)
        image, label = _flip(image, label, draws)
        image, label = scaled_crop(
            image, label, augmentation, scale=draws.scale, corner=(draws.top, draws.left), filters=PILLOW
        )
    return image, label


def normalize(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(image / 255 - mean) / std for each channel, with channels first.

    Args:
        image: (H, W, 3), uint8 or float32 on the scale 0 to 255.
    Returns:
        (3, H, W), float32, contiguous. The quotient by 255 is taken in float32, the rest in float64 with each result
        rounded to float32, as in PaddleSeg.
    """
    height, width, channels = image.shape
    result = np.empty((channels, height, width), np.float32)
    table = normalization_table(mean, std)
    for channel in range(channels):
        plane = image[:, :, channel]
        if plane.dtype == np.uint8:
            np.take(table[channel], plane, out=result[channel], mode="clip")
        else:
            result[channel] = _normalize_values(plane, mean[channel], std[channel])
    return result


def normalization_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """What `normalize` makes of each 8-bit level, (3, 256), float32."""
    levels = np.arange(256)
    return np.stack([_normalize_values(levels, *channel) for channel in zip(mean, std)])


def planes(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) as (3, H, W), contiguous."""
    return np.stack(cv2.split(image)) if image.flags.c_contiguous else np.ascontiguousarray(image.transpose(2, 0, 1))


def _normalize_values(values: np.ndarray, mean: float, std: float) -> np.ndarray:
    fraction = values.astype(np.float32) / np.float32(255)
    centered = (fraction.astype(np.float64) - mean).astype(np.float32)
    return (centered.astype(np.float64) / std).astype(np.float32)


def _flip(image: np.ndarray, label: np.ndarray, draws: Draws) -> Tuple[np.ndarray, np.ndarray]:
    return (image[:, ::-1], label[:, ::-1]) if draws.flip else (image, label)
