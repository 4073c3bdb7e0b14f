"""Other numberings are told apart from unusual datasets of Cityscapes' own."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, name2label

from stdc.data.numbering import SplitIds, describe, other_numbering, problem
from stdc.data.synthetic.writer import Synthetic, SyntheticFrame, write_frame


def count(*pictures):
    counts: Counter = Counter()
    for picture in pictures:
        counts.update(dict(zip(*(part.tolist() for part in np.unique(picture, return_counts=True)))))
    return dict(counts)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Label ids of six drawn frames."""
    folder = tmp_path_factory.mktemp("drawn")
    wanted = Synthetic(seed=0, height=64, width=128, train=6, val=2, test=0)
    for index in range(6):
        write_frame(SyntheticFrame("train", index, 6), wanted, folder)
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.rglob("*_labelIds.png"))]


def renumbered(counts, number):
    changed: Counter = Counter()
    for label_id, pixels in counts.items():
        changed[number(id2label[label_id])] += pixels
    return dict(changed)


#: Names by tag, for those classes that both worlds have.
CARLA = {1: "building", 2: "fence", 4: "person", 5: "pole", 7: "road", 8: "sidewalk", 9: "vegetation", 10: "car",
         11: "wall", 12: "traffic sign", 13: "sky", 18: "traffic light", 22: "terrain"}  # fmt: skip
TAGS = {name: tag for tag, name in CARLA.items()}


@pytest.mark.parametrize("few", [False, True], ids=["all classes", "six classes"])
@pytest.mark.parametrize(
    ("number", "looks"),
    [
        (lambda label: label.trainId if label.trainId != 255 else 0, "train ids"),
        (lambda label: label.trainId + 1 if label.trainId != 255 else 0, "train ids counted from 1"),
        (lambda label: TAGS.get(label.name, 0), "CARLA"),
    ],
    ids=["train ids", "train ids from 1", "simulator"],
)
def test_other_numbering_is_recognized(drawn, number, looks, few):
    counts = count(*drawn)
    if few:
        names = ("road", "building", "vegetation", "sky", "car", "sidewalk")
        counts = {name2label[name].id: counts[name2label[name].id] for name in names}
    assert looks in other_numbering(renumbered(counts, number))


def test_ids_in_a_row_are_recognized(drawn):
    counts = count(*drawn)
    row = dict(zip(range(12), sorted(counts.values(), reverse=True)))
    assert other_numbering(row) is not None
    assert "look like" in problem(SplitIds("val", row))


def test_drawn_frames_are_cityscapes_together_and_alone(drawn):
    for pictures in (drawn, *([picture] for picture in drawn)):
        assert other_numbering(count(*pictures)) is None


def of(**shares):
    return {name2label[name.replace("_", " ")].id: 1000 * share for name, share in shares.items()}


@pytest.mark.parametrize(
    "counts",
    [
        of(unlabeled=70, road=30),
        of(unlabeled=90, sidewalk=10),
        of(unlabeled=50, static=10, sidewalk=40),
        of(static=60, road=30, car=10),
        of(unlabeled=10, ego_vehicle=20, out_of_roi=30, road=40),
        of(out_of_roi=30, ego_vehicle=15, rectification_border=2, static=3, road=20, building=15, sky=10, vegetation=5),
        of(ego_vehicle=40, road=30, building=20, sky=10),
        of(ground=50, building=30, person=20),
        of(parking=40, car=30, road=20, building=10),
        of(rail_track=30, vegetation=40, sky=20, tunnel=5, bridge=5),
        of(tunnel=60, road=30, car=10),
    ],
    ids=["road only", "sidewalk only", "sidewalk and static", "static", "ego vehicle and border", "fisheye", "bus",
         "ground", "car park", "railway", "tunnel"],
)  # fmt: skip
def test_unusual_dataset_with_few_classes_is_no_other_numbering(counts):
    for split in ("train", "val"):
        assert problem(SplitIds(split, counts)) is None


def test_description_names_shares_void_and_what_is_missing():
    line = describe(SplitIds("val", {7: 600, 3: 300, 11: 100}))
    assert line.startswith(
        "val: label ids by share of pixels: 7 road 60.0 %, 3 out of roi (void) 30.0 %, 11 building 10.0 %; void 30.0 %;"
        " without a pixel: sidewalk, wall"
    )
