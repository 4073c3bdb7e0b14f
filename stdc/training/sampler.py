"""Which sample goes where, as a pure function of the step.

Epochs are laid end to end into one endless stream; step `s` of global batch `B` takes positions `s*B … s*B+B-1` of it.
No epoch drops its last images, no state needs saving, and the global batch does not depend on the number of devices.
(PaddleSeg drops the incomplete batch at the end of each epoch and restarts at 0 on resume.)
"""

from __future__ import annotations

from typing import Iterator, List

import numpy as np

from stdc.seeds import derived_seed


class StepSampler:
    """Keys of the samples of each step, for one rank.

    A key packs what a sample's randomness depends on: ``key = epoch * size + index``.
    """

    def __init__(self, size: int, global_batch: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if size < 1 or not 1 <= world_size <= global_batch:
            raise ValueError(f"size {size}, global batch {global_batch}, world size {world_size}")
        self.size = size
        self.global_batch = global_batch
        self.seed = seed
        # The first ranks have one sample more where the batch cannot be divided: `recipe.Schedule.device_batches`.
        share, rest = divmod(global_batch, world_size)
        self.device_batch = share + (rank < rest)
        self._first = rank * share + min(rank, rest)
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def keys(self, step: int) -> List[int]:
        """The rank's keys at `step` (0-based), `device_batch` of them."""
        first = step * self.global_batch + self._first
        return [self._key(position) for position in range(first, first + self.device_batch)]

    def steps(self, start: int, stop: int) -> Iterator[List[int]]:
        """Keys of the steps `start … stop - 1`."""
        return (self.keys(step) for step in range(start, stop))

    def _key(self, position: int) -> int:
        epoch, place = divmod(position, self.size)
        if epoch != self._epoch:
            generator = np.random.RandomState(derived_seed("order", self.seed, epoch))
            self._epoch, self._order = epoch, generator.permutation(self.size)
        return epoch * self.size + int(self._order[place])
