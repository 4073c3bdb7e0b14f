"""Training augmentation, against plain restatements that resize the whole image. (PaddleSeg itself: tests/parity.)"""

from __future__ import annotations

import dataclasses
from typing import Any, Tuple

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from stdc.data import transforms
from stdc.data.transforms import Draws
from stdc.errors import InputError
from stdc.recipe import Augmentation, resolve


def settings(preset: str = "paddleseg", height: int = 32, width: int = 64, **changes: Any) -> Augmentation:
    train = {"preset": preset, "iterations": 2000, "global_batch": 1, "crop_height": height, "crop_width": width}
    return dataclasses.replace(resolve(train).augmentation, **changes)


def picture(height: int, width: int, seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    generator = np.random.RandomState(seed)
    image = generator.randint(0, 256, (height, width, 3)).astype(np.uint8)
    return image, generator.randint(0, 19, (height, width)).astype(np.uint8)


def applied(image: np.ndarray, label: np.ndarray, draws: Draws, used: Augmentation) -> Any:
    """The crop as the network sees it, (3, H, W), and its label."""
    crop, truth = transforms.apply(image, label, draws, used)
    assert crop.dtype == (np.float32 if (used.pipeline, used.distort) == ("paddleseg", "none") else np.uint8)
    return transforms.normalize(crop, used.mean, used.std), truth


def normalized(image: np.ndarray, used: Augmentation) -> np.ndarray:
    values = image.astype(np.float32) / 255
    for step, channel in ((np.subtract, used.mean), (np.divide, used.std)):
        values = step(values, np.array(channel)).astype(np.float32)
    return values.transpose(2, 0, 1)


def paddleseg_without_color(image: np.ndarray, label: np.ndarray, draws: Draws, used: Augmentation) -> Any:
    size = (round(draws.scale * image.shape[1]), round(draws.scale * image.shape[0]))
    image = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    below, right = max(used.crop_height - size[1], 0), max(used.crop_width - size[0], 0)
    image = np.pad(image, ((0, below), (0, right), (0, 0)), constant_values=used.pad_value)
    label = np.pad(label, ((0, below), (0, right)), constant_values=255)
    rows = slice(draws.top, draws.top + used.crop_height)
    columns = slice(draws.left, draws.left + used.crop_width)
    image, label = image[rows, columns], label[rows, columns]
    if draws.flip:
        image, label = image[:, ::-1], label[:, ::-1]
    return normalized(image, used), label


def authors(image: np.ndarray, label: np.ndarray, draws: Draws, used: Augmentation) -> Any:
    drawn, truth = Image.fromarray(image), Image.fromarray(label)
    enhancers = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }
    for kind, factor in draws.distort:
        drawn = enhancers[kind](drawn).enhance(factor)
    if draws.flip:
        drawn, truth = (part.transpose(Image.FLIP_LEFT_RIGHT) for part in (drawn, truth))
    size = (int(draws.scale * drawn.width), int(draws.scale * drawn.height))
    drawn, truth = drawn.resize(size, Image.BILINEAR), truth.resize(size, Image.NEAREST)
    if size[0] < used.crop_width or size[1] < used.crop_height:
        factor = used.crop_height / size[1]
        size = (int(factor * size[0] + 1), int(factor * size[1] + 1))
        drawn, truth = drawn.resize(size, Image.BILINEAR), truth.resize(size, Image.NEAREST)
    box = (draws.left, draws.top, draws.left + used.crop_width, draws.top + used.crop_height)
    return normalized(np.asarray(drawn.crop(box)), used), np.asarray(truth.crop(box))


@pytest.mark.parametrize("size", [(48, 96), (45, 77), (20, 200), (31, 64)])
def test_crops_equal_those_of_a_fully_resized_image_bit_for_bit(size: Tuple[int, int]) -> None:
    used = settings(distort="none", height=40, width=44)
    image, label = picture(*size)
    generator = np.random.RandomState(1)
    for scale in [*transforms.scale_choices(used), 0.6180339, 1.0 / 3]:
        for _ in range(3):
            draws = transforms.draw(dataclasses.replace(used, scale_min=scale, scale_max=scale), *size, generator)
            got = applied(image, label, draws, used)
            expected = paddleseg_without_color(image, label, draws, used)
            assert np.array_equal(got[0], expected[0]) and np.array_equal(got[1], expected[1]), draws


def test_wide_image_far_from_the_origin_has_the_weights_of_the_full_resize() -> None:
    used = settings(distort="none", height=8, width=32)
    image, label = picture(16, 4096)
    # Older OpenCV rounds far positions to float32; 2**-23 is the last bit of a value between 1 and 2.
    exact = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 14)
    last_bit = 0.0 if exact else 2.0**-23
    for scale in transforms.scale_choices(used):
        width = round(4096 * scale)
        for left in (0, 1, width // 2 + 1, width - 33, width - 32):
            draws = Draws(scale, 0, left, False, ())
            got = applied(image, label, draws, used)
            expected = paddleseg_without_color(image, label, draws, used)
            assert np.abs(got[0] - expected[0]).max() <= last_bit and np.array_equal(got[1], expected[1]), draws


def test_authors_chain_equals_a_plain_restatement_at_every_scale() -> None:
    used = settings("authors", height=32, width=64)
    image, label = picture(64, 128)
    generator = np.random.RandomState(2)
    enlarged = set()
    for scale in transforms.scale_choices(used):
        for _ in range(4):
            draws = transforms.draw(dataclasses.replace(used, scale_min=scale, scale_max=scale), 64, 128, generator)
            got = applied(image, label, draws, used)
            expected = authors(image, label, draws, used)
            assert np.array_equal(got[0], expected[0]) and np.array_equal(got[1], expected[1]), draws
        enlarged.add(scale < 0.5)
    assert enlarged == {True, False}


def test_scales_of_the_presets_are_the_published_ones() -> None:
    assert transforms.scale_choices(settings()) == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert transforms.scale_choices(settings("authors")) == [number / 8 for number in range(1, 13)]
    assert transforms.scale_choices(settings(scale_min=0.75, scale_max=0.75)) == [0.75]


def test_draws_reach_every_scale_and_corner_and_no_further() -> None:
    used = settings(height=30, width=60)
    generator = np.random.RandomState(3)
    drawn = [transforms.draw(used, 32, 64, generator) for _ in range(3000)]
    assert {draws.scale for draws in drawn} == set(transforms.scale_choices(used))
    assert 0.45 < np.mean([draws.flip for draws in drawn]) < 0.55
    for scale, rows, columns in ((0.5, 0, 0), (1.0, 2, 4)):
        tops = {draws.top for draws in drawn if draws.scale == scale}
        lefts = {draws.left for draws in drawn if draws.scale == scale}
        assert tops == set(range(rows + 1)) and lefts == set(range(columns + 1))
    kinds = [kind for draws in drawn for kind, _ in draws.distort]
    for kind in ("brightness", "contrast", "saturation", "hue"):
        assert 0.45 < kinds.count(kind) / len(drawn) < 0.55
    assert {draws.distort[0][0] for draws in drawn if draws.distort} == set(kinds)


def test_authors_change_every_color_every_time_in_their_order() -> None:
    draws = transforms.draw(settings("authors"), 64, 128, np.random.RandomState(0))
    assert [kind for kind, _ in draws.distort] == ["brightness", "contrast", "saturation"]


def test_continuous_scale_is_drawn_from_the_whole_range() -> None:
    used = settings(scale_step=0)
    generator = np.random.RandomState(4)
    scales = [transforms.draw(used, 64, 128, generator).scale for _ in range(300)]
    assert len(set(scales)) == 300 and 0.5 <= min(scales) < 0.55 and 1.95 < max(scales) <= 2.0


def test_equal_generators_give_equal_draws() -> None:
    first, second = (transforms.draw(settings(), 64, 128, np.random.RandomState(5)) for _ in range(2))
    assert first == second != transforms.draw(settings(), 64, 128, np.random.RandomState(6))


def test_padding_is_below_and_right_with_void_labels() -> None:
    used = settings(height=20, width=30, distort="none")
    image, label = picture(24, 40)
    crop, truth = applied(image, label, Draws(0.5, 0, 0, False, ()), used)
    assert (truth[12:] == 255).all() and (truth[:, 20:] == 255).all() and (truth[:12, :20] != 255).all()
    # 127.5 is the middle of the scale, so 0 after normalization with mean 0.5.
    assert (crop[:, 12:] == 0).all() and (crop[:, :, 20:] == 0).all()


def test_enlarged_image_covers_a_crop_of_another_shape() -> None:
    used = settings("authors", height=32, width=64, distort="none")
    for size in ((64, 64), (20, 200), (100, 10)):
        image, label = picture(*size)
        for seed in range(10):
            draws = transforms.draw(used, *size, np.random.RandomState(seed))
            crop, truth = applied(image, label, draws, used)
            assert crop.shape == (3, 32, 64) and truth.shape == (32, 64) and truth.max() < 19


def test_every_mixture_of_pipeline_and_small_image_gives_whole_crops() -> None:
    image, label = picture(20, 30)
    for pipeline in ("paddleseg", "authors"):
        for small in ("pad", "upscale"):
            for distort in ("paddleseg", "authors", "none"):
                used = settings(pipeline=pipeline, small_image=small, distort=distort)
                draws = transforms.draw(used, 20, 30, np.random.RandomState(0))
                crop, truth = applied(image, label, draws, used)
                assert crop.shape == (3, 32, 64) and crop.dtype == np.float32 and crop.flags.c_contiguous
                assert truth.shape == (32, 64) and truth.dtype == np.uint8


def test_hue_turns_around_the_circle() -> None:
    red = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    used = settings(height=1, width=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for amount, expected in ((256 / 3, (0, 1, 0)), (-256 / 3, (0, 0, 1)), (0.9, (1, 0, 0)), (-0.9, (1, 0, 0))):
        crop, _ = applied(red, red[:, :, 0], Draws(1.0, 0, 0, False, (("hue", amount),)), used)
        # A third of 256 levels is no whole level, and a level of hue is 6/256 of a color.
        assert np.abs(crop.ravel() - expected).max() < 6 / 255 + 1e-6


def test_normalization_of_bytes_equals_that_of_floats() -> None:
    image, _ = picture(16, 16)
    used = settings("authors")
    expected = normalized(image, used)
    assert np.array_equal(transforms.normalize(image, used.mean, used.std), expected)
    assert np.array_equal(transforms.normalize(image.astype(np.float32), used.mean, used.std), expected)
    looked_up = [
        row[plane] for row, plane in zip(transforms.normalization_table(used.mean, used.std), image.transpose(2, 0, 1))
    ]
    assert np.array_equal(looked_up, expected)


def test_planes_are_the_channels_one_after_the_other() -> None:
    image, _ = picture(5, 7)
    for one in (image, image[:, ::-1]):
        planes = transforms.planes(one)
        assert planes.flags.c_contiguous and np.array_equal(planes, one.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"crop_height": 0}, "train.crop_height"),
        ({"crop_width": -1}, "train.crop_width"),
        ({"scale_min": 0.0}, "train.scale_min"),
        ({"scale_max": 0.25}, "train.scale_min"),
        ({"scale_max": 9.0}, "train.scale_max"),
        ({"scale_step": -0.25}, "train.scale_step"),
        ({"scale_min": float("nan")}, "train.scale_min"),
        ({"small_image": "stretch"}, "train.small_image"),
        ({"pad_value": 256.0}, "train.pad_value"),
        ({"flip_probability": 1.5}, "train.flip_probability"),
        ({"distort": "wild"}, "train.distort"),
        ({"brightness": -0.1}, "train.brightness"),
        ({"hue": 200.0}, "train.hue"),
        ({"std": (0.5, 0.0, 0.5)}, "train.std"),
        ({"pipeline": "mine"}, "train.pipeline"),
    ],
)
def test_settings_out_of_range_name_the_key(changes: Any, key: str) -> None:
    with pytest.raises(InputError, match=rf"^{key}: "):
        settings(**changes)


def test_crop_larger_than_the_largest_scaled_image_names_the_key() -> None:
    transforms.check_crop(settings(height=64, width=128), 32, 64)
    with pytest.raises(InputError, match=r"^train.crop_width: 129 pixels, .* 64x32 .* only 128 .* lower"):
        transforms.check_crop(settings(height=64, width=129), 32, 64)
    with pytest.raises(InputError, match=r"^train.crop_height: 65 "):
        transforms.check_crop(settings(height=65, width=128), 32, 64)
    transforms.check_crop(settings("authors", height=650, width=1280), 32, 64)
