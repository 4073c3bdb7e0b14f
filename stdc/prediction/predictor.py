"""What every backend does alike: passes are run, resized back and averaged, and the largest logit wins."""

from __future__ import annotations

import abc
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from stdc.prediction.protocols import Pass, Protocol, passes_of

#: An array of the backend's own kind: a NumPy array, or a tensor on a device.
Tensor = Any


class Predictor(abc.ABC):
    """A trained network behind one library that computes it.

    Attributes:
        backend: what computes, for the protocol in results, such as "paddle 3.3.1 cpu".
    """

    backend: str

    def predict(self, image: np.ndarray, protocols: Sequence[Protocol]) -> List[Tensor]:
        """Predict one image under every protocol.

        Args:
            image: normalized, (3, H, W), float32.
        Returns:
            For each protocol the train ids (H, W), in the backend's own kind; `to_host` gives them as an array.
        """
        plans = [passes_of(protocol) for protocol in protocols]
        sums: Dict[int, Tensor] = {}
        predictions: Dict[int, Tensor] = {}
        size = (image.shape[1], image.shape[2])
        pixels = self.load(image[None])
        for step in sorted(set().union(*plans)):
            logits = self._pass_logits(pixels, size, step)
            for number, plan in enumerate(plans):
                if step not in plan:
                    continue
                sums[number] = sums[number] + logits if number in sums else logits
                if step == plan[-1]:
                    total = sums.pop(number)
                    predictions[number] = self.largest(total / len(plan) if len(plan) > 1 else total)[0]
        return [predictions[number] for number in range(len(protocols))]

    def _pass_logits(self, pixels: Tensor, size: Tuple[int, int], step: Pass) -> Tensor:
        """Logits of one pass at the size of the image, (1, C, H, W)."""
        if step.scale != 1.0 and step.scaled(size) != size:
            pixels = self.resize(pixels, step.scaled(size), step.align_corners)
        if step.flip:
            pixels = self.mirror(pixels)
        logits = self.logits(pixels)
        if step.flip:
            logits = self.mirror(logits)
        return logits if tuple(logits.shape[2:]) == size else self.resize(logits, size, step.align_corners)

    @abc.abstractmethod
    def load(self, images: np.ndarray) -> Tensor:
        """Normalized images (N, 3, H, W), float32, where the network computes."""

    @abc.abstractmethod
    def logits(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H, W)."""

    @abc.abstractmethod
    def resize(self, tensor: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
        """The last two axes of (1, C, h, w) to (height, width), bilinear."""

    @abc.abstractmethod
    def mirror(self, tensor: Tensor) -> Tensor:
        """(1, C, H, W) from right to left."""

    @abc.abstractmethod
    def largest(self, scores: Tensor) -> Tensor:
        """The class of the largest score, the first of equal ones: (N, C, H, W) to (N, H, W)."""

    def to_host(self, train_ids: Tensor) -> np.ndarray:
        """A prediction as an array, (H, W), uint8."""
        return np.asarray(train_ids, np.uint8)

    def synchronize(self) -> None:  # noqa: B027 (most backends answer when they have finished)
        """Wait until the device has finished what was asked of it."""
