"""Normalization beside the network: samples cross processes and buses as 8-bit levels, a quarter of the bytes."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import paddle

from stdc.data.transforms import normalization_table


class Normalizer:
    """Makes batches of 8-bit levels what the network takes, bit for bit as `stdc.data.transforms.normalize` does.

    Args:
        mean, std: of red, green and blue on the scale 0 to 1.
        send: brings an array to the device, see `stdc.machine.sender`.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        send: Callable[[np.ndarray], paddle.Tensor] = paddle.to_tensor,
    ) -> None:
        self.send = send
        self.table = normalization_table(mean, std)  # (3, 256)
        self._on_device = paddle.to_tensor(self.table.ravel())
        first = 256 * np.arange(len(self.table), dtype=np.int32)
        self._first = paddle.to_tensor(first.reshape(1, -1, 1, 1))

    def __call__(self, images: np.ndarray) -> paddle.Tensor:
        """(N, 3, H, W), uint8, as a float32 tensor on the current device; float32 is taken as normalized already."""
        if images.dtype != np.uint8:
            return self.send(images)
        if self._on_device.place.is_cpu_place():
            return self.send(self.look_up(images))
        return self.gather(images)

    def look_up(self, images: np.ndarray) -> np.ndarray:
        """By the processor: the quicker way where it computes the network too."""
        result = np.empty(images.shape, np.float32)
        for image, normalized in zip(images, result):
            for channel, row in enumerate(self.table):
                np.take(row, image[channel], out=normalized[channel], mode="clip")
        return result

    def gather(self, images: np.ndarray) -> paddle.Tensor:
        """By the device, which receives 8 bits per level."""
        indices = self.send(images).astype("int32") + self._first
        return paddle.gather(self._on_device, indices.reshape([-1])).reshape(images.shape)
