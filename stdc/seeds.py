"""What is drawn from what: every random number of a run is a function of its seed and of where it is drawn.

* Initial weights: Paddle's generator, seeded with `derived_seed` of ("weights", seed). What a step itself would draw:
  the same, of ("step", seed, step, rank).
* The order of the samples of an epoch: `derived_seed` of ("order", seed, epoch), in `stdc.training.sampler`.
* A training crop: `sample_generator` of (seed, epoch, index), in `stdc.data.dataset`.
* A generated scene: `sample_generator` of (seed, number of the split, index), in `stdc.data.synthetic`.

So nothing random is carried from step to step, and a resumed run draws what an undisturbed one draws.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derived_seed(*parts: object) -> int:
    """A 32-bit seed from values, equal on every machine and in every version of Python."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:4], "little")


def sample_generator(seed: int, *place: int) -> np.random.RandomState:
    """The generator of one sample: a function of (seed, *place) and of nothing else.

    `SeedSequence` and `RandomState` promise the same numbers in every NumPy and on every machine.
    """
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, *place))))
