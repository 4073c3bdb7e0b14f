"""Color pictures: the official colors, and what is drawn over what."""

from __future__ import annotations

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import name2label

from stdc import pictures

ROAD, CAR, VOID = 0, 13, 255
IMAGE = np.full((2, 3, 3), (10, 20, 30), np.uint8)
TRUTH = np.array([[ROAD, ROAD, CAR], [CAR, VOID, VOID]], np.uint8)


def test_colors_are_the_official_ones_and_void_is_black():
    colors = pictures.color_map(TRUTH)
    assert tuple(colors[0, 0]) == name2label["road"].color
    assert tuple(colors[0, 2]) == name2label["car"].color
    assert colors[1, 1].tolist() == [0, 0, 0]


def test_overlay_is_half_the_image_and_half_the_color():
    # Road is (128, 64, 128): halves of (138, 84, 158); an overflow of 8 bits would show in the sum for 255 + 128.
    assert pictures.overlay(IMAGE, TRUTH)[0, 0].tolist() == [69, 42, 79]
    assert pictures.overlay(np.full_like(IMAGE, 255), TRUTH)[0, 0].tolist() == [191, 159, 191]


def test_error_map_marks_wrong_pixels_and_darkens_those_that_do_not_count():
    prediction = np.array([[ROAD, CAR, CAR], [CAR, CAR, ROAD]], np.uint8)
    errors = pictures.error_map(IMAGE, TRUTH, prediction).astype(int)
    right, wrong, void = errors[0, 0], errors[0, 1], errors[1, 1]
    assert right[0] == right[1] == right[2]
    assert wrong[0] > right[0] and wrong[0] > 2 * wrong[1]
    assert void[0] < right[0] / 2


def test_parts_stand_side_by_side_without_mixed_colors():
    picture = pictures.side_by_side([IMAGE, pictures.color_map(TRUTH)], part_width=6)
    assert picture.shape == (4, 12, 3)
    assert {tuple(color) for color in picture[:, 6:].reshape(-1, 3)} == {(128, 64, 128), (0, 0, 142), (0, 0, 0)}
    assert np.array_equal(pictures.side_by_side([IMAGE, IMAGE]), np.hstack([IMAGE, IMAGE]))


def test_only_wide_pictures_are_reduced():
    assert pictures.at_most_wide(IMAGE, 3, mix_colors=True) is IMAGE
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 1::2] = 200
    assert pictures.at_most_wide(wide, 4, mix_colors=True).tolist() == np.full((2, 4, 3), 100).tolist()
    assert set(np.unique(pictures.at_most_wide(wide, 4, mix_colors=False))) <= {0, 200}


def test_encoded_pictures_decode_in_red_green_blue_order():
    image = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    decoded = cv2.imdecode(np.frombuffer(pictures.encode_png(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded[..., ::-1], image)
    flat = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    decoded = cv2.imdecode(np.frombuffer(pictures.encode_jpeg(flat), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded[..., ::-1].astype(int) - flat).max() <= 3
