from __future__ import annotations

import json

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image
from tiny import tiny_annotation

from stdc.data.polygons import MAX_BYTES, AnnotationError, draw_train_ids, parse_annotation


def official(document) -> np.ndarray:
    annotation = Annotation()
    annotation.fromJsonText(json.dumps(document))
    return np.asarray(createLabelImage(annotation, "trainIds"))


def ours(document) -> np.ndarray:
    return draw_train_ids(parse_annotation(json.dumps(document).encode()))


def polygon(label, *points, **more):
    return {"label": label, "polygon": [list(point) for point in points], **more}


def document(*objects, height=40, width=60):
    return {"imgHeight": height, "imgWidth": width, "objects": list(objects)}


SQUARE = ((5, 5), (30, 5), (30, 20), (5, 20))
CASES = {
    "nothing": document(),
    "one pixel": document(polygon("car", (0, 0), (0, 0), (0, 0)), height=1, width=1),
    "later covers earlier": document(polygon("road", *SQUARE), polygon("car", (10, 10), (50, 10), (20, 35))),
    "license plate keeps what is below": document(polygon("car", *SQUARE), polygon("license plate", *SQUARE)),
    "license plate group": document(polygon("car", *SQUARE), polygon("license plategroup", *SQUARE)),
    "group": document(polygon("cargroup", *SQUARE), polygon("persongroup", (1, 1), (4, 30), (20, 9))),
    "group of what has no objects": document(polygon("skygroup", *SQUARE)),
    "group with an entry of its own": document(
        polygon("road", *SQUARE), polygon("polegroup", (6, 6), (20, 6), (9, 18))
    ),
    "deleted": document(polygon("road", *SQUARE), polygon("car", *SQUARE, deleted=1)),
    "deleted, unknown, without points": document({"label": "xyz", "polygon": [], "deleted": 1}),
    "not deleted": document(polygon("road", *SQUARE), polygon("car", *SQUARE, deleted=0)),
    "void over class": document(polygon("road", *SQUARE), polygon("static", (6, 6), (20, 6), (9, 18))),
    "outside the picture": document(polygon("road", (-10, -5), (70, -3), (65, 50), (-8, 44))),
    "wholly outside": document(polygon("road", (-10, -5), (-70, -3), (-65, -50))),
    "far outside": document(polygon("road", (-100000, 3), (100000, 7), (4, 100000))),
    "fractions": document(polygon("road", (1.5, 2.5), (40.49, 3.51), (20.999, 30.001))),
    "crossing itself": document(polygon("road", (5, 5), (50, 30), (50, 5), (5, 30))),
    "flat line": document(polygon("road", (5, 5), (50, 5), (20, 5))),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_raster_equals_that_of_cityscapesscripts(case):
    assert np.array_equal(ours(case), official(case))


def test_random_scenes_equal_those_of_cityscapesscripts():
    generator = np.random.default_rng(7)
    names = [label.name for label in labels] + ["cargroup", "ridergroup"]
    for _ in range(60):
        objects = []
        for _ in range(generator.integers(1, 12)):
            points = generator.integers(-20, 90, size=(generator.integers(3, 9), 2)).tolist()
            if generator.random() < 0.2:
                points = (np.asarray(points) + generator.random((len(points), 2))).tolist()
            deleted = {"deleted": int(generator.random() < 0.5)} if generator.random() < 0.3 else {}
            objects.append({"label": str(generator.choice(names)), "polygon": points, **deleted})
        scene = document(*objects)
        assert np.array_equal(ours(scene), official(scene))


def test_tiny_scenes_hold_all_classes_and_equal_cityscapesscripts():
    seen = set()
    for number in range(4):
        scene = tiny_annotation(64, 128, number)
        raster = ours(scene)
        assert np.array_equal(raster, official(scene))
        seen |= set(np.unique(raster).tolist())
    assert seen == {*range(19), 255}


def bad(change):
    scene = document(polygon("car", *SQUARE), polygon("road", *SQUARE))
    change(scene)
    return json.dumps(scene).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"{", "no whole JSON document"),
        (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
        (b'{"\xff', "byte 2 is not UTF-8"),
        (b"[]", "no annotation"),
        (b'{"imgHeight": 1, "imgWidth": 1}', "no annotation"),
        (b"[" * 200_000, "nested too deeply|no whole JSON"),
        (b'{"imgHeight": ' + b"9" * 5000 + b"}", "an integer of 5000 digits"),
        (b" " * (MAX_BYTES + 1), "are not supported"),
        (bad(lambda d: d.update(imgHeight=0)), "imgHeight is 0, expected a positive integer"),
        (bad(lambda d: d.update(imgWidth="60")), "imgWidth is '60'"),
        (bad(lambda d: d.update(imgWidth=True)), "imgWidth is True"),
        (bad(lambda d: d.pop("imgWidth")), "imgWidth is None"),
        (bad(lambda d: d["objects"].append(3)), "object 2 has no label"),
        (bad(lambda d: d["objects"].append({"label": 3})), "object 2 has no label"),
        (bad(lambda d: d["objects"].append({"label": "car"})), r"object 2 \(car\): no polygon"),
        (bad(lambda d: d["objects"][0].update(label="a\nb")), r"unknown label name 'a\\nb'"),
        (bad(lambda d: d["objects"][0].update(label="x" * 10**6)), "unknown label name 'xxx"),
        (bad(lambda d: d["objects"][0]["polygon"].append([1])), r"point 4 is \[1\], expected \[x, y\]"),
        (bad(lambda d: d["objects"][0]["polygon"].append([1, 2, 3])), r"expected \[x, y\]"),
        (bad(lambda d: d["objects"][0]["polygon"].append([1, "2"])), "expected two finite numbers"),
        (bad(lambda d: d["objects"][0]["polygon"].append([1, None])), "expected two finite numbers"),
        (bad(lambda d: d["objects"][0]["polygon"].append([1, float("inf")])), "expected two finite numbers"),
        (bad(lambda d: d["objects"][0]["polygon"].append([1, -1e9])), "far outside every picture"),
        (bad(lambda d: d["objects"][0].update(polygon={})), "no polygon"),
        (bad(lambda d: d["objects"][0].update(polygon="abc")), "no polygon"),
    ],
)
def test_bad_annotation_is_explained_in_a_short_line(data, said):
    with pytest.raises(AnnotationError, match=said) as caught:
        parse_annotation(data)
    assert all(len(problem) < 1000 and "\n" not in problem for problem in caught.value.problems)


def test_unknown_name_is_met_with_the_nearest_known_one():
    with pytest.raises(AnnotationError, match=r"'trafic sign' \(2 objects\); did you mean 'traffic sign'\?"):
        parse_annotation(bad(lambda d: [item.update(label="trafic sign") for item in d["objects"]]))


def test_problems_of_one_annotation_are_bounded():
    objects = [polygon(f"thing {number}", *SQUARE) for number in range(5000)]
    with pytest.raises(AnnotationError) as caught:
        parse_annotation(json.dumps(document(*objects)).encode())
    assert len(caught.value.problems) == 11


def test_all_problems_of_an_annotation_are_listed():
    data = bad(lambda d: (d.update(imgHeight=-1), d["objects"][0].update(label="x"), d["objects"][1].update(polygon=7)))
    with pytest.raises(AnnotationError) as caught:
        parse_annotation(data)
    assert len(caught.value.problems) == 3


def test_byte_order_mark_is_no_part_of_the_document():
    data = json.dumps(document(polygon("car", *SQUARE))).encode()
    assert parse_annotation(b"\xef\xbb\xbf" + data) == parse_annotation(data)


def test_object_of_one_point_or_none_is_left_out_and_counted():
    square = polygon("road", *SQUARE)
    annotation = parse_annotation(json.dumps(document(polygon("car"), square, polygon("car", (3, 4)))).encode())
    assert annotation.left_out == 2
    assert annotation.polygons == parse_annotation(json.dumps(document(square)).encode()).polygons


def test_object_of_two_points_is_the_line_that_the_official_script_draws():
    line = document(polygon("road", *SQUARE), polygon("car", (2, 30), (50, 38)))
    assert (official(line) == 13).any()
    assert np.array_equal(ours(line), official(line))


def test_raster_is_right_with_a_pillow_that_does_not_draw_into_our_array(monkeypatch):
    made = Image.frombuffer
    monkeypatch.setattr(Image, "frombuffer", lambda *arguments: made(*arguments).copy())
    scene = document(polygon("road", *SQUARE), polygon("car", (0, 0), (9, 0), (9, 9)))
    assert np.array_equal(ours(scene), official(scene))
    assert (ours(scene) == 13).any()
