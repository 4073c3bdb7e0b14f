"""Properties of readers, over values that hypothesis makes up: an answer of the right form, or words for a person."""

from __future__ import annotations

import json
import math
from typing import Any, List

import numpy as np
from hypothesis import strategies as st

from stdc import files, recipe
from stdc.data import polygons
from stdc.data.labels import LABEL_BY_NAME
from stdc.data.layout import frame_city, frame_of, stays_inside
from stdc.errors import InputError, shortened, shown
from stdc.presets import PRESETS
from stdc.weights import array_files

texts = st.text(max_size=30)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
coordinates = st.integers(-200, 200) | st.floats(-1e7, 1e7) | scalars
points = st.lists(coordinates, min_size=2, max_size=2) | values
objects = st.fixed_dictionaries(
    {"label": st.sampled_from([*LABEL_BY_NAME, "cargroup"]) | texts, "polygon": st.lists(points, max_size=6) | values},
    optional={"deleted": st.sampled_from([0, 1]) | values},
)
#: Mostly sound annotations.
annotations = st.fixed_dictionaries(
    {
        "imgHeight": st.integers(1, 40) | values,
        "imgWidth": st.integers(1, 40) | values,
        "objects": st.lists(objects, max_size=5) | values,
    }
)
train_sections = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(sorted(PRESETS)) | values,
        "iterations": st.integers(1, 100) | values,
        "global_batch": st.integers(1, 8) | values,
        "crop_height": st.just(64) | values,
        "crop_width": st.just(64) | values,
    },
    optional=dict.fromkeys(sorted(PRESETS["paddleseg"]), values),
)
#: Instructions of pickles, with and without sense.
pickled = st.lists(
    st.sampled_from(
        [b"\x80\x04", b"(", b".", b"0", b"2", b"N", b"\x88", b"}", b"]", b")", b"t", b"\x85", b"\x86", b"s", b"u", b"a",
         b"e", b"R", b"b", b"\x81", b"\x93", b"\x94", b"h\x00", b"q\x00", b"Q", b"K\x07", b"X\x01\x00\x00\x00w",
         b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n", b"cnumpy.core.multiarray\n_reconstruct\n",
         b"cbuiltins\ntuple\n", b"cos\nsystem\n", b"X\x02\x00\x00\x00f4"]
    )
    | st.binary(max_size=6),
    max_size=30,
).map(b"".join)  # fmt: skip


def annotation_is_drawn_or_refused(document: Any) -> None:
    """A parsed annotation draws to its size with known values; a refused one says why on single lines."""
    try:
        annotation = polygons.parse_annotation(json.dumps(document).encode())
    except polygons.AnnotationError as error:
        assert error.problems and all(line and "\n" not in line and len(line) < 2000 for line in error.problems)
        return
    if annotation.height * annotation.width < 1 << 20:
        drawn = polygons.draw_train_ids(annotation)
        assert drawn.shape == (annotation.height, annotation.width) and drawn.dtype == np.uint8
        assert set(np.unique(drawn)) <= {*range(19), 255}


def recipe_is_finite_or_refused(train: Any) -> None:
    """An effective recipe is made of finite numbers, and its hash can be taken."""
    try:
        made = recipe.resolve(train)
    except InputError as error:
        assert "train." in str(error) and "\n" not in str(error).replace("\\n", "")
        return
    files.canonical_json(made.as_dict())
    schedule, augmentation = made.schedule, made.augmentation
    assert schedule.iterations >= 1 and schedule.global_batch >= 1
    numbers = (schedule.base_lr, made.optimizer.momentum, *augmentation.mean, *augmentation.std)
    assert all(math.isfinite(value) for value in numbers)


def pickle_is_read_or_refused(data: bytes) -> None:
    """Whatever the instructions: plain data comes out, or an error that `parse_pdparams` explains."""
    try:
        arrays = array_files.parse_pdparams(data, "made up")
    except InputError as error:
        assert str(error).startswith("made up: ") and "\n" not in str(error)
        return
    assert arrays and all(isinstance(array, np.ndarray) for array in arrays.values())


def names_are_told_apart(text: str) -> None:
    """A frame has a city and no more; what stays inside never climbs; what is shown is one line."""
    city = frame_city(text)
    assert city is None or (text.startswith(city + "_") and len(text) == len(city) + 14)
    frame = frame_of(f"x/{text}_leftImg8bit.png", "_leftImg8bit.png")
    assert frame is None or frame == text.rsplit("/", 1)[-1]
    if stays_inside(text):
        depth: List[str] = []
        for part in text.split("/"):
            if part not in ("", "."):
                depth.append(part)
        assert ".." not in depth and not text.startswith("/")
    assert len(shown(text).splitlines()) <= 1 and shortened(text).isprintable()


#: (property, strategy), for the test suite and the campaign.
PROPERTIES = (
    (annotation_is_drawn_or_refused, annotations),
    (recipe_is_finite_or_refused, train_sections),
    (pickle_is_read_or_refused, pickled),
    (names_are_told_apart, texts | st.from_regex(r"[a-z/.]{1,8}_[0-9]{6}_[0-9]{6}", fullmatch=True)),
)
