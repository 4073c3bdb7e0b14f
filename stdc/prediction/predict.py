"""Prediction by Paddle, on any device that it knows."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np
import paddle
import paddle.nn.functional as F

from stdc import files
from stdc.machine import devices
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_segmentor
from stdc.prediction.predictor import Predictor
from stdc.prediction.protocols import Protocol
from stdc.recipe import Network
from stdc.weights.reading import read_weights


class PaddlePredictor(Predictor):
    """A network of `stdc.nn`, or any other layer that gives logits (N, C, H, W).

    Args:
        model: in evaluation mode while it predicts.
        device: its kind, for `backend`; "" where nobody reads that.
    """

    def __init__(self, model: paddle.nn.Layer, device: str = "") -> None:
        self.model = model
        self._device = device
        self.backend = devices.backend(device)

    def load(self, images: np.ndarray) -> paddle.Tensor:
        return paddle.to_tensor(images)

    def logits(self, pixels: paddle.Tensor) -> paddle.Tensor:
        with paddle.no_grad():
            return self.model(pixels)

    def resize(self, tensor: paddle.Tensor, size: Sequence[int], align_corners: bool) -> paddle.Tensor:
        return F.interpolate(tensor, list(size), mode="bilinear", align_corners=align_corners)

    def mirror(self, tensor: paddle.Tensor) -> paddle.Tensor:
        return paddle.flip(tensor, axis=[3])

    def largest(self, scores: paddle.Tensor) -> paddle.Tensor:
        # Found on the device, as 32-bit integers: half the bytes of Paddle's default cross the bus.
        return paddle.argmax(scores, axis=1, dtype="int32")

    def to_host(self, train_ids: paddle.Tensor) -> np.ndarray:
        return np.asarray(train_ids.cast("uint8").numpy(), np.uint8)

    def synchronize(self) -> None:
        devices.synchronize(self._device)


def load_network(network: Network, path: files.PathLike) -> paddle.nn.Layer:
    """A network in evaluation mode with every one of its parameters from a file.

    Args:
        path: `.pdparams` or `.safetensors`. The heads that PaddleSeg saves and never runs are left out.
    Raises:
        InputError: the file is unreadable, or a parameter is missing, unknown or of another shape.
    """
    model = build_segmentor(network.backbone, pool_counts_padding=network.pool_counts_padding)
    load_segmentor(model, read_weights(path), str(path))
    model.eval()
    return model


def predict(model: paddle.nn.Layer, image: np.ndarray, protocols: Sequence[Protocol]) -> List[np.ndarray]:
    """Predict one image under every protocol.

    Args:
        model: in evaluation mode; gives logits (1, C, H, W).
        image: normalized, (3, H, W), float32.
    Returns:
        For each protocol the train ids (H, W), uint8.
    """
    predictor = PaddlePredictor(model)
    return [predictor.to_host(train_ids) for train_ids in predictor.predict(image, protocols)]
