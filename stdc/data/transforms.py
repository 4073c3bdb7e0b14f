"""Training augmentation: random scale, crop, flip and color, then normalization.

Two chains of steps:

* ``paddleseg`` (PaddleSeg 2.7, ``paddleseg/transforms``): scale, crop with padding, flip, color; OpenCV on float32.
* ``authors`` (github.com/MichaelFan01/STDC-Seg, ``transform.py``): color, flip, scale, crop after enlarging what is
  too small; Pillow on 8 bits, whose bilinear filter smooths when it shrinks.

Everything random is drawn first (`draw`), as plain numbers; `apply` is a pure function of image, label and draws. So
the crop is known before the image is resized, and only the part of the image that it shows is resized. Given equal
draws the result is PaddleSeg's, bit for bit (tests/parity/transforms). Older OpenCV (seen in 4.11, not in 4.14 and 5.0)
rounds positions far from the origin to float32: there, single values of a window differ in their last bit.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from stdc.data.hue import turn_hue
from stdc.data.labels import IGNORE
from stdc.errors import InputError
from stdc.recipe import Augmentation
from stdc.units import size_text

#: Probability with which PaddleSeg's RandomDistort makes each kind of change (its `*_prob` defaults).
_PADDLESEG_DISTORT_PROBABILITY = 0.5

#: Longest period, in pixels of the result, at which a window's resize repeats the full one. The published scales have
#: at most 16; scales without a short period are resized whole.
_LONGEST_PERIOD = 64

#: Periods added around a window, so that the border of the window stays outside the crop for every filter.
_MARGIN_PERIODS = 2


class Draws(NamedTuple):
    """Everything random about one training crop.

    Attributes:
        scale: factor of the image's size.
        top, left: corner of the crop in the scaled (and padded or enlarged) image, pixels.
        flip: mirror left to right.
        distort: changes of color in the order they are made: (kind, amount), where the kind is "brightness",
            "contrast" or "saturation" with a factor, or "hue" with a turn in 1/256.
    """

    scale: float
    top: int
    left: int
    flip: bool
    distort: Tuple[Tuple[str, float], ...]


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
    height, width = _canvas_size(augmentation, *scaled_size(augmentation, height, width, scale))
    top = int(uniform() * (height - augmentation.crop_height + 1))
    left = int(uniform() * (width - augmentation.crop_width + 1))
    flip = uniform() < augmentation.flip_probability
    return Draws(scale, top, left, flip, _draw_distort(augmentation, generator))


def scaled_size(augmentation: Augmentation, height: int, width: int, scale: float) -> Tuple[int, int]:
    """(height, width) of the scaled image; the two sources round differently."""
    if augmentation.pipeline == "paddleseg":
        return max(round(scale * height), 1), max(round(scale * width), 1)
    return max(int(scale * height), 1), max(int(scale * width), 1)


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
                f"train.scale_max {augmentation.scale_max}; lower train.{key} to {size} or less, or raise "
                "train.scale_max"
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
        image, label = _scaled_crop(image, label, draws, augmentation, _linear_opencv, _nearest_opencv)
        image, label = _flip(image, label, draws)
        # PaddleSeg passes through 8 bits here, rounding down, even where no color happens to be changed.
        if augmentation.distort != "none":
            image = _distort(image.astype(np.uint8), draws.distort)
    else:
        if augmentation.distort != "none":
            image = _distort(image, draws.distort)
        image, label = _flip(image, label, draws)
        image, label = _scaled_crop(image, label, draws, augmentation, _linear_pillow, _nearest_pillow)
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


# Geometry.

#: Resizes an array to (height, width).
_Resize = Callable[[np.ndarray, Tuple[int, int]], np.ndarray]


def _scaled_crop(
    image: np.ndarray,
    label: np.ndarray,
    draws: Draws,
    augmentation: Augmentation,
    linear: _Resize,
    nearest: _Resize,
) -> Tuple[np.ndarray, np.ndarray]:
    """Scale the image and its label, pad or enlarge them where the crop does not fit, and cut the crop."""
    scaled = scaled_size(augmentation, image.shape[0], image.shape[1], draws.scale)
    canvas = _canvas_size(augmentation, *scaled)
    crop = (augmentation.crop_height, augmentation.crop_width)
    corner = (draws.top, draws.left)
    if canvas != scaled and augmentation.small_image == "upscale":
        image, label = linear(image, scaled), nearest(label, scaled)
        scaled = canvas
    image = _resized_window(image, scaled, corner, crop, linear)
    rows, columns = (
        _nearest_pixels(nearest, source, target)[first : first + count]
        for source, target, first, count in zip(label.shape, scaled, corner, crop)
    )
    label = label[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    label = label.take(rows - rows[0], 0).take(columns - columns[0], 1)
    below, right = crop[0] - image.shape[0], crop[1] - image.shape[1]
    if below or right:
        gray = (augmentation.pad_value,) * 3
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=gray)
        label = cv2.copyMakeBorder(label, 0, below, 0, right, cv2.BORDER_CONSTANT, value=IGNORE)
    return image, label


def _canvas_size(augmentation: Augmentation, height: int, width: int) -> Tuple[int, int]:
    """(height, width) that the crop is cut from: the scaled image's, or more where the crop does not fit."""
    if height >= augmentation.crop_height and width >= augmentation.crop_width:
        return height, width
    if augmentation.small_image == "pad":
        return max(height, augmentation.crop_height), max(width, augmentation.crop_width)
    # The authors enlarge by the shorter side only. Where image and crop differ in shape that leaves borders that are
    # black in the image and 0, which is road, in the label. The larger of the two factors covers the crop for every
    # shape and equals theirs on Cityscapes.
    factor = max(augmentation.crop_height / height, augmentation.crop_width / width)
    return int(factor * height + 1), int(factor * width + 1)


class _Span(NamedTuple):
    """A window along one axis: the slice of the source to resize, the length to resize it to, and the slice to keep."""

    source: slice
    length: int
    kept: slice


def _span(first: int, count: int, source: int, target: int) -> _Span:
    """The window behind pixels `first … first + count - 1` of an axis resized from `source` to `target` pixels.

    The window is shorter where the axis ends before the last of them. With target/source = p/q in lowest terms the
    filter repeats every p pixels of the result and q of the source, so a window that starts and ends on whole periods
    is resized with the same weights as the whole axis.
    """
    last = min(first + count, target)
    ratio = Fraction(target, source)
    period, source_period = ratio.numerator, ratio.denominator
    if period > _LONGEST_PERIOD:
        return _Span(slice(0, source), target, slice(first, last))
    begin = max(first // period - _MARGIN_PERIODS, 0)
    end = min(-(-last // period) + _MARGIN_PERIODS, target // period)
    kept = slice(first - begin * period, last - begin * period)
    return _Span(slice(begin * source_period, end * source_period), (end - begin) * period, kept)


def _resized_window(
    image: np.ndarray, scaled: Tuple[int, int], corner: Tuple[int, int], crop: Tuple[int, int], resize: _Resize
) -> np.ndarray:
    """`resize(image, scaled)` cut to the crop; what lies outside of the crop is not resized."""
    rows = _span(corner[0], crop[0], image.shape[0], scaled[0])
    columns = _span(corner[1], crop[1], image.shape[1], scaled[1])
    resized = resize(image[rows.source, columns.source], (rows.length, columns.length))
    return resized[rows.kept, columns.kept]


def _linear_opencv(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    return cv2.resize(image.astype(np.float32, copy=False), size[::-1], interpolation=cv2.INTER_LINEAR)


def _nearest_opencv(label: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    return cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)


def _linear_pillow(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size[::-1], Image.BILINEAR))


def _nearest_pillow(label: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(label)).resize(size[::-1], Image.NEAREST))


@functools.lru_cache(maxsize=64)
def _nearest_pixels(nearest: _Resize, source: int, target: int) -> np.ndarray:
    """Which pixel of an axis of `source` pixels stands at each of `target` when that axis is resized, (target,)."""
    return nearest(np.arange(source, dtype=np.int32).reshape(1, source), (1, target))[0]


def _flip(image: np.ndarray, label: np.ndarray, draws: Draws) -> Tuple[np.ndarray, np.ndarray]:
    return (image[:, ::-1], label[:, ::-1]) if draws.flip else (image, label)


# Color.


def _draw_distort(augmentation: Augmentation, generator: np.random.RandomState) -> Tuple[Tuple[str, float], ...]:
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


def _distort(image: np.ndarray, changes: Sequence[Tuple[str, float]]) -> np.ndarray:
    """Change the colors of an 8-bit image, one change after the other, rounding to 8 bits in between.

    The values are those of Pillow's `ImageEnhance` and of its HSV pictures.
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
