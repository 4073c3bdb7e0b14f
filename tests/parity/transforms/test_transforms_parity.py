"""Our transforms against the output of PaddleSeg 2.7's, with the same draws: equal bit for bit.

The arrays were made by make_arrays.py, which runs PaddleSeg itself, with OpenCV 4.14. Older versions of OpenCV round a
resized value another way here and there (one of 300,000 in 4.11), for PaddleSeg as for us; with those a value in a
thousand may differ by one gray level.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import cv2
import numpy as np
import pytest

from stdc.data import scaled_crop, transforms
from stdc.recipe import Augmentation, resolve


@pytest.fixture(scope="module")
def stored() -> Dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "arrays.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _cases(stored: Dict[str, np.ndarray]) -> Iterator[Tuple[int, Augmentation, transforms.Draws]]:
    for number, case in enumerate(json.loads(str(stored["cases"]))["cases"]):
        train: Dict[str, Any] = {"preset": "paddleseg", "iterations": 1, "global_batch": 1}
        train["crop_height"], train["crop_width"] = case["crop"]
        if not case["distort"]:
            train["distort"] = "none"
        draws = dict(case["draws"], distort=tuple((kind, amount) for kind, amount in case["draws"]["distort"]))
        yield number, resolve(train).augmentation, transforms.Draws(**draws)


def _equal(image: np.ndarray, expected: np.ndarray) -> bool:
    if tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 14):
        return np.array_equal(image, expected)
    # Mean and deviation are 0.5, so a gray level is 2/255.
    difference = np.abs(image - expected)
    return bool(difference.max() <= 2 / 255 + 1e-6 and (difference > 0).mean() <= 1e-3)


def test_training_crops_equal_paddleseg_bit_for_bit(stored: Dict[str, np.ndarray]) -> None:
    different = []
    for number, settings, draws in _cases(stored):
        crop, label = transforms.apply(stored[f"image{number}"], stored[f"label{number}"], draws, settings)
        image = transforms.normalize(crop, settings.mean, settings.std)
        expected = stored[f"out_image{number}"], stored[f"out_label{number}"]
        assert image.dtype == expected[0].dtype and label.dtype == expected[1].dtype
        if not (_equal(image, expected[0]) and np.array_equal(label, expected[1])):
            different.append((number, draws))
    assert not different


def test_stored_cases_reach_every_scale_change_and_kind_of_padding(stored: Dict[str, np.ndarray]) -> None:
    cases = list(_cases(stored))
    assert {draws.scale for _, _, draws in cases} == {0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0}
    assert {draws.flip for _, _, draws in cases} == {False, True}
    kinds = {kind for _, _, draws in cases for kind, _ in draws.distort}
    assert kinds == {"brightness", "contrast", "saturation", "hue"}
    assert {settings.distort for _, settings, _ in cases} == {"paddleseg", "none"}
    padded = set()
    for number, settings, draws in cases:
        height, width = stored[f"image{number}"].shape[:2]
        scaled = scaled_crop.scaled_size(settings, height, width, draws.scale)
        padded.add((scaled[0] < settings.crop_height, scaled[1] < settings.crop_width))
    assert padded == {(False, False), (False, True), (True, False), (True, True)}


def test_draws_of_the_preset_stay_in_the_ranges_that_paddleseg_drew(stored: Dict[str, np.ndarray]) -> None:
    ours = []
    generator = np.random.RandomState(0)
    for number, settings, _ in list(_cases(stored)) * 4:
        height, width = stored[f"image{number}"].shape[:2]
        ours.append(transforms.draw(settings, height, width, generator))
    assert {draws.scale for draws in ours} == {draws.scale for _, _, draws in _cases(stored)}
    for peer in (False, True):
        amounts: Dict[str, list] = {}
        for draws in [draws for _, _, draws in _cases(stored)] if peer else ours:
            for kind, amount in draws.distort:
                amounts.setdefault(kind, []).append(amount)
        for kind in ("brightness", "contrast", "saturation"):
            assert 0.6 <= min(amounts[kind]) < 0.8 and 1.2 < max(amounts[kind]) <= 1.4
        assert -18 <= min(amounts["hue"]) < -9 and 9 < max(amounts["hue"]) <= 18
