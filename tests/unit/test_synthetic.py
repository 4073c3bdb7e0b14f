"""The generated dataset: official layout and rasters, every class, the same bytes for the same seed."""

import json

import cv2
import numpy as np
import pytest
from programs import assert_refused, run_program

from stdc.data import inventory
from stdc.data.labels import LABEL_ID_TO_TRAIN_ID, TRAIN_COLORS, TRAIN_NAMES
from stdc.data.synthetic.camera import Camera, area
from stdc.data.synthetic.writer import CITIES, Synthetic, SyntheticFrame, make_dataset, read_section, write_frame
from stdc.errors import InputError
from stdc.files import read_json

SECTION = {"seed": 3, "height": 64, "width": 128, "train": 6, "val": 3, "test": 2}
WANTED = Synthetic(**SECTION)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    make_dataset(WANTED, root / "dataset", root / "dataset.json", processes=2)
    return root / "dataset"


def test_download_check_finds_nothing_wrong(dataset):
    manifest = inventory.check_dataset(dataset, "any", 1)
    assert {split: part["frames"] for split, part in manifest["splits"].items()} == {"train": 6, "val": 3, "test": 2}
    assert all(len(part["cities"]) >= 2 for part in manifest["splits"].values())
    assert manifest["label_source"] == "labelIds" and [list(size) for size in manifest["sizes"]] == [[64, 128]]


def test_every_trained_class_occurs_in_train_and_val(dataset):
    for split in ("train", "val"):
        found = set()
        for path in (dataset / "gtFine" / split).glob("*/*_labelIds.png"):
            found |= set(np.unique(LABEL_ID_TO_TRAIN_ID[cv2.imread(str(path), -1)]).tolist())
        missing = [name for train_id, name in enumerate(TRAIN_NAMES) if train_id not in found]
        assert not missing and 255 in found, f"{split} lacks {missing}"


def test_polygons_name_void_groups_and_plates_and_stay_inside(dataset):
    names = set()
    for path in (dataset / "gtFine").glob("[tv][ra]*/*/*_polygons.json"):
        annotation = json.loads(path.read_text())
        assert (annotation["imgHeight"], annotation["imgWidth"]) == (64, 128)
        for item in annotation["objects"]:
            names.add(item["label"])
            assert all(0 <= x < 128 and 0 <= y < 64 for x, y in item["polygon"]) and len(item["polygon"]) >= 3
    assert {"ego vehicle", "rectification border", "out of roi", "license plate"} <= names
    assert names & {"persongroup", "cargroup"}


def test_test_split_has_dummy_ground_truth_as_the_original(dataset):
    for path in (dataset / "gtFine" / "test").glob("*/*_polygons.json"):
        labels = {item["label"] for item in json.loads(path.read_text())["objects"]}
        assert labels <= {"ego vehicle", "rectification border", "out of roi"}


def test_instances_agree_with_labels(dataset):
    for path in (dataset / "gtFine" / "val").glob("*/*_instanceIds.png"):
        instances = cv2.imread(str(path), -1)
        labels = cv2.imread(str(path).replace("instanceIds", "labelIds"), -1)
        assert instances.dtype == np.uint16 and instances.max() >= 1000
        # An instance id holds its label id: 26003 is the fourth car.
        assert np.array_equal(np.where(instances >= 1000, instances // 1000, instances), labels)


def test_same_seed_same_bytes_whatever_the_number_of_processes(dataset, tmp_path):
    make_dataset(WANTED, tmp_path / "again", tmp_path / "again.json", processes=1)
    assert read_json(tmp_path / "again.json") == read_json(dataset.with_suffix(".json"))
    for path in dataset.rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(dataset)).read_bytes()


def test_frame_does_not_depend_on_how_many_come_before_it(tmp_path):
    alone = write_frame(SyntheticFrame("train", 4, 6), WANTED, tmp_path / "a")
    longer = write_frame(SyntheticFrame("train", 4, 6), WANTED._replace(train=99), tmp_path / "b")
    assert alone == longer


def test_another_seed_draws_other_scenes(tmp_path):
    first = write_frame(SyntheticFrame("val", 0, 3), WANTED, tmp_path / "a")
    second = write_frame(SyntheticFrame("val", 0, 3), WANTED._replace(seed=4), tmp_path / "b")
    assert set(first) == set(second) and not set(first.values()) & set(second.values())


def test_picture_is_lit_and_textured_not_label_colors(dataset):
    colors = {tuple(color) for color in TRAIN_COLORS.tolist()}
    for path in (dataset / "leftImg8bit" / "train").glob("*/*.png"):
        picture = cv2.imread(str(path))[..., ::-1].reshape(-1, 3)
        assert len(np.unique(picture, axis=0)) > 2000
        share = np.mean([tuple(pixel) in colors for pixel in picture[::7].tolist()])
        assert share < 0.01


def test_splits_share_no_city_and_frame_numbers_vary():
    names = [city for cities in CITIES.values() for city in cities]
    assert len(names) == len(set(names))
    assert len({SyntheticFrame("train", number, 9).name.rsplit("_", 1)[1] for number in range(9)}) > 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"height": 32}, "synthetic.height: 32"),
        ({"width": "wide"}, "synthetic.width: 'wide'"),
        ({"val": 0}, "synthetic.val: 0"),
        ({"train": True}, "synthetic.train: True"),
        ({"seed": -1}, "synthetic.seed: -1"),
        ({"weather": "rain"}, "synthetic.weather: no such key"),
    ],
)
def test_what_cannot_be_drawn_is_named(change, named):
    with pytest.raises(InputError, match=named):
        read_section({**SECTION, **change})
    assert read_section(SECTION) == WANTED


def test_projection_of_a_point_worked_out_by_hand():
    camera = Camera(height=100, width=200, horizon=0.4, vanishing=0.5)
    # Focal length 110; 2 m to the right and on the ground, 10 m ahead: 110 * 2 / 10 and 110 * 1.5 / 10.
    assert camera.project(2.0, 0.0, 10.0) == pytest.approx((122.0, 56.5))


def test_cutting_keeps_what_is_inside_and_drops_the_rest():
    camera = Camera(100, 200, 0.4, 0.5)
    assert area(camera.cut([(-50, -50), (50, -50), (50, 50), (-50, 50)])) == 2500
    assert camera.cut([(300, 0), (400, 0), (400, 50)]) == []
    assert camera.cut([(10, 10), (11, 10), (11, 11)]) == [], "less than a pixel to see"


@pytest.mark.parametrize("text", ["{}", "[]", '{"synthetic": 3}', '{"synthetic": {"train": "x"}}', "{"])
def test_program_tells_a_configuration_that_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    done = run_program(
        "make_synthetic",
        "--config",
        tmp_path / "config.json",
        "--output",
        tmp_path / "d",
        "--index",
        tmp_path / "i.json",
    )
    assert_refused(done, "synthetic")
    assert not (tmp_path / "d").exists() and not (tmp_path / "i.json").exists()


def test_folder_of_someone_else_is_not_replaced_but_an_earlier_dataset_is(tmp_path):
    wanted = WANTED._replace(train=2, val=2, test=0)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that make_synthetic did not write"):
        make_dataset(wanted, tmp_path / "d", tmp_path / "i.json", processes=1)
    assert (tmp_path / "d" / "notes.txt").read_text() == "mine"
    for _ in range(2):
        make_dataset(wanted, tmp_path / "own", tmp_path / "i.json", processes=1)
    assert inventory.check_dataset(tmp_path / "own", "any", 1)["splits"]["train"]["frames"] == 2


@pytest.mark.parametrize("key", list(SECTION))
@pytest.mark.parametrize("value", [None, True, -1, 1.5, "64", [], 10**400])
def test_value_that_cannot_be_drawn_is_refused_by_its_key(key, value):
    with pytest.raises(InputError, match=rf"synthetic\.{key}: .*an integer from \d+ to \d+ is expected") as caught:
        read_section({**SECTION, key: value})
    assert len(str(caught.value)) < 200
