"""The random scale and the crop of a training sample: sizes, and resizing no more of an image than the crop shows.

Scale and corner are drawn beforehand, so the crop is known before the image is resized, and only the window that the
crop shows is resized, with the values of resizing the whole image (`_span`). Older OpenCV (seen in 4.11, not in 4.14
and 5.0) rounds positions far from the origin to float32: there, single values of a window differ in their last bit.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Callable, NamedTuple, Tuple

import cv2
import numpy as np
from PIL import Image

from stdc.data.labels import IGNORE
from stdc.recipe import Augmentation

#: Resizes an array to (height, width).
Resize = Callable[[np.ndarray, Tuple[int, int]], np.ndarray]

#: Longest period, in pixels of the result, at which a window's resize repeats the full one. The published scales have
#: at most 16; scales without a short period are resized whole.
_LONGEST_PERIOD = 64

#: Periods added around a window, so that the border of the window stays outside the crop for every filter.
_MARGIN_PERIODS = 2


class Filters(NamedTuple):
    """How an image is resized, and how its label is."""

    image: Resize
    label: Resize


def scaled_size(augmentation: Augmentation, height: int, width: int, scale: float) -> Tuple[int, int]:
    """(height, width) of the scaled image; the two sources round differently."""
    if augmentation.pipeline == "paddleseg":
        return max(round(scale * height), 1), max(round(scale * width), 1)
    return max(int(scale * height), 1), max(int(scale * width), 1)


def canvas_size(augmentation: Augmentation, height: int, width: int) -> Tuple[int, int]:
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


def scaled_crop(
    image: np.ndarray,
    label: np.ndarray,
    augmentation: Augmentation,
    *,
    scale: float,
    corner: Tuple[int, int],
    filters: Filters,
) -> Tuple[np.ndarray, np.ndarray]:
    """Scale the image and its label, pad or enlarge them where the crop does not fit, and cut the crop.

    Args:
        image, label: (H, W, 3) and (H, W), uint8.
        augmentation: size of the crop, and what happens to an image smaller than it.
        scale: factor of the image's size.
        corner: (top, left) of the crop in the scaled (and padded or enlarged) image, pixels.
        filters: how the image and its label are resized.
    Returns:
        The crop (crop_height, crop_width, 3), of the type that the filter gives, and its label
        (crop_height, crop_width), uint8.
    """
    scaled = scaled_size(augmentation, image.shape[0], image.shape[1], scale)
    canvas = canvas_size(augmentation, *scaled)
    crop = (augmentation.crop_height, augmentation.crop_width)
    if canvas != scaled and augmentation.small_image == "upscale":
        image, label = filters.image(image, scaled), filters.label(label, scaled)
        scaled = canvas
    image = _resized_window(image, scaled, corner, crop, filters.image)
    rows, columns = (
        _nearest_pixels(filters.label, source, target)[first : first + count]
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
    image: np.ndarray, scaled: Tuple[int, int], corner: Tuple[int, int], crop: Tuple[int, int], resize: Resize
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
def _nearest_pixels(nearest: Resize, source: int, target: int) -> np.ndarray:
    """Which pixel of an axis of `source` pixels stands at each of `target` when that axis is resized, (target,)."""
    return nearest(np.arange(source, dtype=np.int32).reshape(1, source), (1, target))[0]


#: PaddleSeg's: OpenCV on float32, so that an image comes out as float32.
OPENCV = Filters(_linear_opencv, _nearest_opencv)
#: The authors': Pillow on 8 bits, whose bilinear filter smooths when it shrinks.
PILLOW = Filters(_linear_pillow, _nearest_pillow)
