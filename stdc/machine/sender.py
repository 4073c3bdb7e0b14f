"""From the host's memory to the device's, without waiting for it."""

from __future__ import annotations

import collections
from typing import Any, Deque

import numpy as np
import paddle

#: Copies whose sources are kept: those of two batches, images and labels each. By the time the trainer sends a batch it
#: has read what the step before the last one computed, so the copies for that step are done.
_SOURCES_KEPT = 4


class Sender:
    """Sends arrays to the device that new tensors are made on.

    A copy is queued behind what the device was asked for before, and the host goes on: with a batch sent while the
    device computes the step before, neither waits for the other. (`paddle.to_tensor` waits until the device has done
    all it was asked for.) The source of such a copy must outlive it, so it is a tensor of the sender's, not the
    caller's array: in pinned memory for CUDA, which copies from other memory only while the host waits.

    On a CPU the tensor is made at once.

    Attributes:
        kind: where sources lie: "pinned", "pageable", or "host" where the device is the processor.
    """

    def __init__(self) -> None:
        self._place = paddle.framework._current_expected_place()
        self._source_place: Any = paddle.CPUPlace()
        self._sources: Deque[paddle.Tensor] = collections.deque(maxlen=_SOURCES_KEPT)
        self.kind = "host" if isinstance(self._place, paddle.CPUPlace) else "pageable"
        if isinstance(self._place, paddle.CUDAPlace) and self._can_pin():
            self._source_place, self.kind = paddle.CUDAPinnedPlace(), "pinned"

    def __call__(self, array: np.ndarray) -> paddle.Tensor:
        """The array on the device. Its memory may be written again as soon as this returns."""
        source = paddle.to_tensor(array, place=self._source_place)
        if self.kind == "host":
            return source
        self._sources.append(source)
        return source._copy_to(self._place, False)

    def _can_pin(self) -> bool:
        """A container may limit the memory that can be pinned; it is slower without, and no error."""
        sample = np.arange(4096, dtype=np.uint8)
        try:
            pinned = paddle.to_tensor(sample, place=paddle.CUDAPinnedPlace())
            return bool((pinned._copy_to(self._place, False).numpy() == sample).all())
        except Exception:
            return False
