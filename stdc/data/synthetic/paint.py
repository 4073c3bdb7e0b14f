"""From a scene to a picture: colors, textures, shadows, haze, light and sensor noise."""

from __future__ import annotations

from typing import Sequence, Tuple

import cv2
import numpy as np

from stdc.data.synthetic.scene import Piece, Scene
from stdc.data.synthetic.things import Point, Thing

#: Depth at which two thirds of a thing's color have gone over into haze, meters.
_HAZE_DEPTH_M = 130.0
#: Labels that name a region of the picture rather than something in it.
_INVISIBLE = ("out of roi", "rectification border")


def paint(scene: Scene, height: int, width: int, generator: np.random.RandomState) -> np.ndarray:
    """The picture of a scene, (height, width, 3), uint8, RGB.

    Args:
        generator: of this frame alone, for textures and light.
    """
    canvas = np.zeros((height, width, 3), np.float32)
    noise = generator.standard_normal((height, width)).astype(np.float32)
    for piece in scene.pieces:
        if piece.thing.label not in _INVISIBLE:
            _paint_piece(canvas, piece, scene, noise, generator)
    return _develop(canvas, generator)


def _paint_piece(
    canvas: np.ndarray, piece: Piece, scene: Scene, noise: np.ndarray, generator: np.random.RandomState
) -> None:
    thing = piece.thing
    clear = float(np.exp(-thing.depth / _HAZE_DEPTH_M)) if thing.label != "sky" and thing.depth < 500 else 1.0
    haze = np.array(scene.haze, np.float32)
    for detail in thing.under:
        _blend(canvas, _mask(canvas.shape[:2], detail.outline), np.array(detail.color, np.float32), detail.opacity)
    mask = _mask(canvas.shape[:2], piece.polygon)
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    inside = mask[top:bottom, left:right] > 0
    surface = _surface(thing, bottom - top, right - left, noise, generator)
    for detail in thing.details:
        shape = _mask(canvas.shape[:2], detail.outline)[top:bottom, left:right]
        _blend(surface, shape, np.array(detail.color, np.float32), detail.opacity)
    surface = surface * clear + haze * (1.0 - clear)
    canvas[top:bottom, left:right][inside] = surface[inside]


def _surface(thing: Thing, height: int, width: int, noise: np.ndarray, generator: np.random.RandomState) -> np.ndarray:
    """A rectangle of a thing's material, (height, width, 3), float32."""
    fine = np.roll(noise, tuple(generator.randint(0, noise.shape, 2)), (0, 1))[:height, :width]
    coarse_height = max(2, int(np.ceil(height / thing.blotch_size)) + 1)
    coarse_width = max(2, int(np.ceil(width / thing.blotch_size)) + 1)
    coarse = generator.standard_normal((coarse_height, coarse_width)).astype(np.float32)
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    light = np.linspace(1.0, thing.fade, height, dtype=np.float32)[:, None]
    gray = thing.grain * fine + thing.blotch * coarse
    return np.array(thing.color, np.float32) * light[..., None] + gray[..., None]


def _blend(canvas: np.ndarray, mask: np.ndarray, color: np.ndarray, opacity: float) -> None:
    inside = mask > 0
    canvas[inside] = canvas[inside] * (1.0 - opacity) + color * opacity


def _mask(size: Tuple[int, int], outline: Sequence[Point]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    # Clipped far outside the image, where nothing is seen: OpenCV's fixed-point numbers end there.
    points = np.clip(np.floor(np.asarray(outline, np.float64) + 0.5), -(1 << 14), 1 << 14).astype(np.int32)
    cv2.fillPoly(mask, [points], 1)
    return mask


def _develop(canvas: np.ndarray, generator: np.random.RandomState) -> np.ndarray:
    """The lens, the light of the hour and the sensor."""
    height, width = canvas.shape[:2]
    picture = cv2.GaussianBlur(canvas, (3, 3), 0.6)
    warmth = generator.uniform(-0.07, 0.07)
    picture *= np.array([1.0 + warmth, 1.0, 1.0 - warmth], np.float32) * np.float32(generator.uniform(0.78, 1.12))
    slope = np.linspace(-1.0, 1.0, width, dtype=np.float32) * np.float32(generator.uniform(-0.1, 0.1))
    picture *= (1.0 + slope)[None, :, None]
    picture += generator.standard_normal((height, width, 3)).astype(np.float32) * np.float32(2.5)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)
