"""The turned hue beside Pillow's own, which computes it in floats."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stdc.data.hue import turn_hue


def by_pillow(image: np.ndarray, amount: float) -> np.ndarray:
    hue, saturation, value = Image.fromarray(image).convert("HSV").split()
    turned = hue.point([int(level + amount) & 255 for level in range(256)])
    return np.asarray(Image.merge("HSV", (turned, saturation, value)).convert("RGB"))


def test_every_color_is_turned_as_by_pillow() -> None:
    numbers = np.arange(1 << 24, dtype=np.uint32)
    colors = np.stack((numbers & 255, numbers >> 8 & 255, numbers >> 16), axis=-1).astype(np.uint8)
    image = colors.reshape(4096, 4096, 3)
    assert np.array_equal(turn_hue(image, 17.3), by_pillow(image, 17.3))


@pytest.mark.parametrize("amount", [-128.0, -18.0, -3.7, -0.4, 0.0, 0.4, 3.7, 18.0, 99.9, 128.0])
def test_every_turn_is_that_of_pillow(amount: float) -> None:
    image = np.random.RandomState(0).randint(0, 256, (64, 65, 3)).astype(np.uint8)
    image[:8] = image[:8, :, :1]
    for one in (image, image[:, ::-1]):
        assert np.array_equal(turn_hue(one, amount), by_pillow(np.ascontiguousarray(one), amount))
