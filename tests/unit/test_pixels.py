"""Normalization on the trainer's side gives the bytes that the dataset's own gives."""

from __future__ import annotations

import numpy as np
import pytest

from stdc.data import transforms
from stdc.presets import PRESETS
from stdc.training.pixels import Normalizer


@pytest.mark.parametrize("preset", ["paddleseg", "authors"])
def test_looked_up_levels_equal_normalized_ones_bit_for_bit(preset: str) -> None:
    mean, std = PRESETS[preset]["mean"], PRESETS[preset]["std"]
    images = np.random.RandomState(0).randint(0, 256, (2, 3, 24, 40)).astype(np.uint8)
    # Every level of every channel.
    images[0, :, 0:8, 0:32] = np.arange(256).reshape(8, 32)
    expected = np.stack([transforms.normalize(image.transpose(1, 2, 0), mean, std) for image in images])
    normalizer = Normalizer(mean, std)
    for found in (normalizer(images).numpy(), normalizer.look_up(images), normalizer.gather(images).numpy()):
        assert found.dtype == np.float32 and found.tobytes() == expected.tobytes()


def test_float_images_are_taken_as_they_are() -> None:
    images = np.random.RandomState(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    assert Normalizer((0.5,) * 3, (0.5,) * 3)(images).numpy().tobytes() == images.tobytes()
