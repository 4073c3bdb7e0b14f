"""Color pictures of what a network sees, and their bytes as JPEG and PNG.

Every image here is (H, W, 3), uint8, red-green-blue; every raster of train ids is (H, W), uint8, with 255 for void.
"""

from __future__ import annotations

from typing import List, Optional, Sequence

import cv2
import numpy as np

from stdc.data.labels import IGNORE, TRAIN_ID_TO_COLOR

_ERROR_COLOR = (232, 62, 54)
#: Share of the error color in a wrong pixel, and of the brightness that is left to a pixel that does not count.
_ERROR_SHARE = 0.75
_VOID_BRIGHTNESS = 0.35


def color_map(train_ids: np.ndarray) -> np.ndarray:
    """Train ids in the official colors of Cityscapes; void is black."""
    return TRAIN_ID_TO_COLOR[train_ids]


def overlay(image: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
    """The image with the colors of the classes half over it."""
    return ((image.astype(np.uint16) + color_map(train_ids)) // 2).astype(np.uint8)


def error_map(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The image in gray, wrong pixels in red; pixels that do not count are dark."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) * 0.6 + 60
    picture = np.repeat(gray[..., None], 3, axis=2)
    counted = truth != IGNORE
    wrong = counted & (truth != prediction)
    picture[wrong] = (1 - _ERROR_SHARE) * picture[wrong] + _ERROR_SHARE * np.array(_ERROR_COLOR, np.float32)
    picture[~counted] *= _VOID_BRIGHTNESS
    return picture.round().clip(0, 255).astype(np.uint8)


def side_by_side(parts: Sequence[np.ndarray], part_width: Optional[int] = None) -> np.ndarray:
    """Pictures of one size next to each other, from left to right.

    Args:
        parts: at least one, all of one size.
        part_width: pixels; each part is enlarged or reduced to it without mixing colors. None keeps the size.
    """
    if part_width is not None:
        height, width = parts[0].shape[:2]
        size = (part_width, max(1, round(height * part_width / width)))
        parts = [cv2.resize(part, size, interpolation=cv2.INTER_NEAREST) for part in parts]
    return np.hstack(list(parts))


def at_most_wide(image: np.ndarray, width: int, mix_colors: bool) -> np.ndarray:
    """The image, reduced to `width` pixels where it is wider.

    Args:
        mix_colors: average neighbors, as a photograph wants it; False keeps flat colors as they are.
    """
    height, found = image.shape[:2]
    if found <= width:
        return image
    interpolation = cv2.INTER_AREA if mix_colors else cv2.INTER_NEAREST
    return cv2.resize(image, (width, max(1, round(height * width / found))), interpolation=interpolation)


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """The bytes of a JPEG file; `quality` is from 1 to 100, OpenCV's own default is 95."""
    return _encoded(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(image: np.ndarray, compression: int = 1) -> bytes:
    """The bytes of a PNG file; `compression` is from 0 (fast) to 9 (small)."""
    return _encoded(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, compression])


def _encoded(image: np.ndarray, suffix: str, options: List[int]) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot write {suffix}")
    return bytes(data.tobytes())
