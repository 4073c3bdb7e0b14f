"""What predictors have in common whose library takes and gives NumPy arrays: everything but the network."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

from stdc.prediction.predictor import Predictor

#: Rows whose scores are compared at a time: few enough that they stay in the processor's cache.
_ROWS = 32


class ArrayPredictor(Predictor):
    """A predictor on the CPU; a subclass adds `logits`."""

    def load(self, images: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(images, np.float32)

    def resize(self, tensor: np.ndarray, size: Sequence[int], align_corners: bool) -> np.ndarray:
        for axis, length in zip((2, 3), size):
            below, above, share = _places(tensor.shape[axis], length, align_corners)
            share = share[:, None] if axis == 2 else share
            tensor = tensor.take(below, axis) * (1 - share) + tensor.take(above, axis) * share
        return tensor

    def mirror(self, tensor: np.ndarray) -> np.ndarray:
        return tensor[..., ::-1]

    def largest(self, scores: np.ndarray) -> np.ndarray:
        return np.stack([largest_class(one) for one in scores])


def largest_class(scores: np.ndarray) -> np.ndarray:
    """The first class of the largest score: (C, H, W), at most 256 classes, to (H, W), uint8.

    Equal to `scores.argmax(axis=0)` for finite scores, and three times as fast.
    """
    classes, height, width = scores.shape
    found = np.zeros((height, width), np.uint8)
    for top in range(0, height, _ROWS):
        band = slice(top, top + _ROWS)
        best = scores[0, band].copy()
        for number in range(1, classes):
            candidate = scores[number, band]
            np.putmask(found[band], candidate > best, number)
            np.maximum(best, candidate, out=best)
    return found


def _places(source: int, target: int, align_corners: bool) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `target` positions its two neighbors among `source`, and the share of the second, float32."""
    if align_corners:
        place = np.arange(target) * ((source - 1) / max(target - 1, 1))
    else:
        place = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    below = np.minimum(np.floor(place).astype(np.int64), source - 1)
    return below, np.minimum(below + 1, source - 1), (place - below).astype(np.float32)
