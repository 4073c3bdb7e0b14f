from __future__ import annotations

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from programs import assert_refused, run_program
from tiny import TINY_CITIES, make_tiny_dataset

from stdc.data import frame_checks, inventory
from stdc.data.inventory import check_dataset
from stdc.data.labels import LABEL_ID_TO_TRAIN_ID
from stdc.data.manifest import read_manifest
from stdc.errors import InputErrors
from stdc.files import write_json

STEM = "aachen_000000_000019"
IMAGE = f"leftImg8bit/train/aachen/{STEM}_leftImg8bit.png"
POLYGONS = f"gtFine/train/aachen/{STEM}_gtFine_polygons.json"
LABEL_IDS = f"gtFine/train/aachen/{STEM}_gtFine_labelIds.png"
INSTANCE_IDS = f"gtFine/train/aachen/{STEM}_gtFine_instanceIds.png"


def problems_of(root, expect="any"):
    with pytest.raises(InputErrors) as caught:
        check_dataset(root, expect)
    return caught.value.problems


def snapshot(root):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(root.rglob("*"))}


def test_manifest_describes_every_used_file(tiny_dataset):
    manifest = check_dataset(tiny_dataset, "any")
    assert manifest["label_source"] == "labelIds"
    assert manifest["expected"] == "any"
    assert manifest["splits"] == {
        split: {"cities": dict.fromkeys(cities, 2), "frames": 4} for split, cities in TINY_CITIES.items()
    }
    assert manifest["sizes"] == [(32, 64)]
    order = [(entry["split"], entry["frame"]) for entry in manifest["frames"]]
    assert order == sorted(order)
    assert len(order) == 12
    for entry in manifest["frames"]:
        assert entry["size"] == [32, 64]
        for part, suffix in (
            ("image", "leftImg8bit"),
            ("label", "gtFine_labelIds"),
            ("instance", "gtFine_instanceIds"),
        ):
            data = (tiny_dataset / entry[part]["path"]).read_bytes()
            assert entry[part]["path"].endswith(f"/{entry['city']}/{entry['frame']}_{suffix}.png")
            assert entry[part]["bytes"] == len(data)
            assert entry[part]["sha256"] == hashlib.sha256(data).hexdigest()


def test_manifest_is_the_same_for_any_number_of_processes_and_any_place(tiny_dataset, tmp_path):
    copy = shutil.copytree(tiny_dataset, tmp_path / "somewhere else")
    write_json(tmp_path / "one.json", check_dataset(tiny_dataset, "any", processes=1))
    write_json(tmp_path / "three.json", check_dataset(copy, "any", processes=3))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "three.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "one.json").read_text()


def test_check_writes_nothing_into_the_dataset(tiny_dataset):
    before = snapshot(tiny_dataset)
    check_dataset(tiny_dataset, "any", processes=2)
    assert snapshot(tiny_dataset) == before


def test_polygons_are_the_source_only_without_any_label_ids(tmp_path):
    root = make_tiny_dataset(tmp_path, label_ids=False, instance_ids=False, color=False)
    manifest = check_dataset(root, "any")
    assert manifest["label_source"] == "polygons"
    assert all(entry["label"]["path"].endswith("_gtFine_polygons.json") for entry in manifest["frames"])
    assert all(entry["instance"] is None for entry in manifest["frames"])


def test_label_ids_alone_are_enough(tmp_path):
    root = make_tiny_dataset(tmp_path, polygons=False, instance_ids=False, color=False)
    assert check_dataset(root, "any")["label_source"] == "labelIds"


def test_mixed_label_sources_are_refused(tiny_dataset):
    (tiny_dataset / LABEL_IDS).unlink()
    assert problems_of(tiny_dataset) == [
        f"{IMAGE}: only polygons, while other frames have labelIds: one kind must cover all; expected {LABEL_IDS}"
    ]


def test_test_split_may_be_absent_or_without_ground_truth(tiny_dataset):
    shutil.rmtree(tiny_dataset / "gtFine/test")
    manifest = check_dataset(tiny_dataset, "any")
    assert [entry["label"] for entry in manifest["frames"] if entry["split"] == "test"] == [None] * 4
    shutil.rmtree(tiny_dataset / "leftImg8bit/test")
    assert check_dataset(tiny_dataset, "any")["splits"]["test"] == {"cities": {}, "frames": 0}


def test_test_split_with_half_its_ground_truth_is_refused(tiny_dataset):
    for path in (tiny_dataset / "gtFine/test/bonn").iterdir():
        path.unlink()
    problems = problems_of(tiny_dataset)
    assert any("leftImg8bit/test/bonn/bonn_000000_000019" in line and "without label" in line for line in problems)


def test_test_split_with_ground_truth_and_no_image_is_refused(tiny_dataset):
    shutil.rmtree(tiny_dataset / "leftImg8bit/test")
    assert problems_of(tiny_dataset) == ["test: gtFine/test has frames, leftImg8bit/test has none; add or remove"]


def test_frame_without_instances_beside_others_with_them_is_refused(tiny_dataset):
    (tiny_dataset / INSTANCE_IDS).unlink()
    (problem,) = problems_of(tiny_dataset)
    assert problem == f"{IMAGE}: no instanceIds, while other train frames have them; expected {INSTANCE_IDS}"


def edit_polygons(change):
    def apply(root):
        document = json.loads((root / POLYGONS).read_text())
        change(document)
        (root / POLYGONS).write_text(json.dumps(document))

    return apply


def repaint(path, change, dtype=np.uint8):
    def apply(root):
        pixels = cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED)
        Image.fromarray(change(pixels).astype(dtype)).save(root / path)

    return apply


def put(row, column, value):
    def change(pixels):
        pixels = pixels.copy()
        pixels[row, column] = value
        return pixels

    return change


def truncate(path, keep=0.5):
    return lambda root: (root / path).write_bytes(
        (root / path).read_bytes()[: int(keep * (root / path).stat().st_size)]
    )


def palette(root):
    Image.open(root / IMAGE).convert("P").save(root / IMAGE)


BAD_FILES = {
    "image truncated": (truncate(IMAGE), IMAGE, "cut off at byte"),
    "image empty": (truncate(IMAGE, 0), IMAGE, "the file is empty"),
    "image gray": (repaint(IMAGE, lambda p: p[..., 0]), IMAGE, "8-bit gray PNG, expected 8-bit RGB"),
    "image with alpha": (
        repaint(IMAGE, lambda p: np.dstack([p, p[..., :1]])),
        IMAGE,
        "8-bit RGBA PNG, expected 8-bit RGB",
    ),
    "image with palette": (palette, IMAGE, "8-bit palette PNG, expected 8-bit RGB"),
    "image 16-bit": (repaint(IMAGE, lambda p: p[..., 0], np.uint16), IMAGE, "16-bit gray PNG, expected 8-bit RGB"),
    "label of another size": (
        repaint(LABEL_IDS, lambda p: p[:16]),
        LABEL_IDS,
        "64x16, expected 64x32 as its image (width x height)",
    ),
    "label in color": (
        repaint(LABEL_IDS, lambda p: np.dstack([p] * 3)),
        LABEL_IDS,
        "8-bit RGB PNG, expected 8-bit gray",
    ),
    "label id 34": (
        repaint(LABEL_IDS, put(3, 5, 34)),
        LABEL_IDS,
        "value 34 at 1 pixels (first at row 3, column 5); expected label ids 0 to 33",
    ),
    "label id 255": (
        repaint(LABEL_IDS, put(slice(7, 9), slice(10, 12), 255)),
        LABEL_IDS,
        "at 4 pixels (first at row 7, column 10); expected label ids 0 to 33; 255 is the ignored value of train ids",
    ),
    "label with many wrong values": (
        repaint(LABEL_IDS, put(0, slice(0, 8), np.arange(100, 108))),
        LABEL_IDS,
        "(first at row 0, column 4), 3 more values",
    ),
    "label truncated": (truncate(LABEL_IDS), LABEL_IDS, "cut off at byte"),
    "instances 8-bit": (
        repaint(INSTANCE_IDS, lambda p: p % 30),
        INSTANCE_IDS,
        "8-bit gray PNG, expected 16-bit gray",
    ),
    "instance of a road": (
        repaint(INSTANCE_IDS, put(1, 2, 7001), np.uint16),
        INSTANCE_IDS,
        "value 7001 at 1 pixels (first at row 1, column 2); expected label ids 0 to 33 or 24000 to 33999",
    ),
    "instance id 34": (repaint(INSTANCE_IDS, put(1, 2, 34), np.uint16), INSTANCE_IDS, "value 34 at 1 pixels"),
    "polygons truncated": (truncate(POLYGONS), POLYGONS, "no whole JSON document"),
    "polygons empty": (truncate(POLYGONS, 0), POLYGONS, "the file is empty"),
    "polygons of another kind": (edit_polygons(lambda d: d.pop("objects")), POLYGONS, "no annotation"),
}

#: What is wrong with a polygons file that came whole; it counts where polygons are the source of labels.
BAD_ANNOTATIONS = {
    "unknown label name": (
        edit_polygons(lambda d: d["objects"][3].update(label="raod")),
        "unknown label name 'raod'; did you mean 'road'?",
    ),
    "another size": (
        edit_polygons(lambda d: d.update(imgWidth=65)),
        "65x32, expected 64x32 as its image",
    ),
    "not a number": (
        edit_polygons(lambda d: d["objects"][1]["polygon"].append([float("nan"), 1])),
        "point 4 is [nan, 1], expected two finite numbers",
    ),
}


@pytest.mark.parametrize(("damage", "path", "said"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_bad_file_is_named_with_what_is_wrong(tiny_dataset, damage, path, said):
    damage(tiny_dataset)
    (problem,) = problems_of(tiny_dataset)
    assert problem.startswith(f"{path}: ")
    assert said in problem


@pytest.mark.parametrize(("damage", "said"), BAD_ANNOTATIONS.values(), ids=list(BAD_ANNOTATIONS))
def test_bad_annotation_is_refused_where_it_is_used_and_only_there(tiny_dataset, monkeypatch, damage, said):
    damage(tiny_dataset)
    assert check_dataset(tiny_dataset, "any")["label_source"] == "labelIds"
    assert any(line.startswith(f"{POLYGONS}: ") and said in line for line in problems_of(tiny_dataset, "cityscapes"))
    for path in tiny_dataset.rglob("*_labelIds.png"):
        path.unlink()
    (problem,) = problems_of(tiny_dataset)
    assert problem.startswith(f"{POLYGONS}: ")
    assert said in problem


def test_what_is_left_out_is_told(tmp_path):
    root = make_tiny_dataset(tmp_path, label_ids=False, instance_ids=False, color=False)
    edit_polygons(lambda d: d["objects"].extend([{"label": "car", "polygon": []}] * 2))(root)
    for name in ("leftImg8bit/train/@eaDir", "leftImg8bit/val/lost+found", "gtFine/train/emptycity", "gtFine/.hidden"):
        (root / name).mkdir()
    lines = []
    check_dataset(root, "any", log=lines.append)
    assert sorted(lines) == [
        f"left out: {POLYGONS}: 2 objects of less than two points, of which nothing can be drawn",
        "left out: gtFine/train/emptycity: no _gtFine_labelIds.png or _gtFine_polygons.json in it",
        "left out: leftImg8bit/train/@eaDir: no part of a dataset",
        "left out: leftImg8bit/val/lost+found: no part of a dataset",
    ]


def test_city_that_one_half_lacks_is_still_missed(tiny_dataset):
    for path in (tiny_dataset / "leftImg8bit/val/lindau").iterdir():
        path.unlink()
    problems = problems_of(tiny_dataset)
    assert len(problems) == 2
    assert all("gtFine/val/lindau" in line and "label without image" in line for line in problems)


@pytest.mark.parametrize("place", ["leftImg8bit/train", "leftImg8bit/val/lindau", "gtFine/val"])
def test_link_that_leads_to_itself_is_named(tiny_dataset, place):
    shutil.rmtree(tiny_dataset / place)
    (tiny_dataset / place).symlink_to(tiny_dataset / place)
    result = run_program("check_dataset", "--dataset", tiny_dataset, "--output", tiny_dataset.parent / "m.json")
    assert_refused(result, f"{place}: ", "Too many levels of symbolic links")


def all_ids_become(new, split="*"):
    def apply(root):
        for path in root.glob(f"gtFine/{split}/*/*_labelIds.png"):
            ids = np.asarray(Image.open(path))
            Image.fromarray(np.asarray(new(ids), np.uint8)).save(path)

    return apply


def test_shares_of_label_ids_are_told(tiny_dataset):
    lines = []
    check_dataset(tiny_dataset, "any", log=lines.append)
    train, val = lines
    assert train.startswith("train: label ids by share of pixels: 7 road ")
    assert val.startswith("val: label ids by share of pixels: ")
    assert "3 out of roi (void)" in train


def test_training_split_without_a_pixel_of_a_class_is_refused(tiny_dataset):
    all_ids_become(lambda ids: ids * 0, "train")(tiny_dataset)
    assert problems_of(tiny_dataset) == ["train: no pixel of a trained class: every pixel has id 0 (unlabeled)"]


def test_validation_split_that_nobody_labeled_is_a_warning(tiny_dataset):
    all_ids_become(lambda ids: ids * 0, "val")(tiny_dataset)
    lines = []
    check_dataset(tiny_dataset, "any", log=lines.append)
    assert "warning: val: no pixel of a trained class; there is nothing to validate on" in lines


def test_label_ids_counted_from_zero_are_refused(tiny_dataset):
    all_ids_become(lambda ids: ids % 3)(tiny_dataset)
    problems = problems_of(tiny_dataset)
    assert [line.split(":")[0] for line in problems] == ["train", "val"]
    assert all("ids from 0 to 2 look like numbers of its own, counted 0, 1, 2" in line for line in problems)


def test_train_ids_without_a_255_are_refused_in_place_of_label_ids(tiny_dataset):
    table = LABEL_ID_TO_TRAIN_ID.copy()
    table[table == 255] = 0
    all_ids_become(lambda ids: table[ids])(tiny_dataset)
    problems = problems_of(tiny_dataset)
    assert [line.split(":")[0] for line in problems] == ["train", "val"]
    assert all("look like train ids" in line for line in problems)


def test_polygons_without_a_trained_class_are_refused_for_training(tmp_path):
    root = make_tiny_dataset(tmp_path, label_ids=False, instance_ids=False, color=False)
    for path in root.glob("gtFine/train/*/*_polygons.json"):
        document = json.loads(path.read_text())
        document["objects"] = [item for item in document["objects"] if item["label"] in ("out of roi", "static")]
        path.write_text(json.dumps(document))
    assert problems_of(root) == ["train: no object of a trained class in any polygons file; nothing could be learned"]


def test_all_problems_are_listed_at_once(tiny_dataset):
    truncate(IMAGE)(tiny_dataset)
    truncate(POLYGONS.replace("000019", "000020").replace("_000000_", "_000001_"))(tiny_dataset)
    (tiny_dataset / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png").unlink()
    (tiny_dataset / "gtFine/val/lindau/lindau_000000_000019_gtFine_polygons.json").unlink()
    (tiny_dataset / "leftImg8bit/test/bonn/bonn_000001_000020_leftImg8bit.png").unlink()
    (tiny_dataset / "leftImg8bit/val/stray.png").write_bytes(b"")
    problems = problems_of(tiny_dataset)
    said = ["stray.png", "without label", "label without image", "cut off", "no whole JSON"]
    assert len(problems) == len(said)
    for fragment, problem in zip(said, problems):
        assert fragment in problem


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("tree", ["leftImg8bit", "gtFine"])
def test_empty_split_is_named(tiny_dataset, split, tree):
    shutil.rmtree(tiny_dataset / tree / split)
    problems = problems_of(tiny_dataset)
    assert any(line.startswith(f"{split}: empty split; no *_") and f"{tree}/{split}/" in line for line in problems)


def test_missing_half_of_the_dataset_is_named_once(tiny_dataset):
    shutil.rmtree(tiny_dataset / "gtFine")
    assert problems_of(tiny_dataset) == [f"gtFine: no such folder in {tiny_dataset}"]


def test_pairing_is_by_frame_name_not_by_order(tiny_dataset):
    # The same number of files on both sides: two sorted listings would pair them without a word.
    for path in sorted((tiny_dataset / "gtFine/train/aachen").iterdir()):
        path.rename(path.with_name(path.name.replace("aachen_000001", "aachen_000002")))
    problems = problems_of(tiny_dataset)
    assert any("aachen_000001_000020_leftImg8bit.png: image without label" in line for line in problems)
    assert any("aachen_000002_000020" in line and "label without image" in line for line in problems)


def test_same_picture_in_two_splits_is_a_warning(tiny_dataset):
    shutil.copy(tiny_dataset / IMAGE, tiny_dataset / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png")
    lines = []
    check_dataset(tiny_dataset, "any", log=lines.append)
    (line,) = [line for line in lines if line.startswith("warning")]
    assert IMAGE in line
    assert "not independent" in line


def test_official_set_is_compared_city_by_city(tiny_dataset):
    problems = problems_of(tiny_dataset, "cityscapes")
    assert "train: 4 images, expected 2975 in 18 cities; unpack" in problems[0]
    assert "train/aachen: 2 image, 2 polygons, 2 labelIds, 2 instanceIds; expected 174 of each" in problems
    assert any(line.startswith("val: 4 images, expected 500") for line in problems)
    assert any(line.startswith("test: 4 images, expected 1525") for line in problems)
    assert f"{IMAGE}: 64x32, expected 2048x1024 as in the official data (width x height)" in problems


def test_official_set_passes_when_whole(tiny_dataset, monkeypatch):
    counts = {split: dict.fromkeys(cities, 2) for split, cities in TINY_CITIES.items()}
    monkeypatch.setattr(inventory, "CITIES", counts)
    monkeypatch.setattr(inventory, "IMAGE_SIZE", (32, 64))
    assert check_dataset(tiny_dataset, "cityscapes")["expected"] == "cityscapes"
    counts["train"] = {"aachen": 3}
    assert problems_of(tiny_dataset, "cityscapes")[1:] == [
        "train/aachen: 2 image, 2 polygons, 2 labelIds, 2 instanceIds; expected 3 of each",
        "train/bochum: 2 image, 2 polygons, 2 labelIds, 2 instanceIds; expected 0 of each",
    ]


def test_oversized_file_is_refused_before_it_fills_the_memory(tiny_dataset, monkeypatch):
    monkeypatch.setattr(frame_checks, "MAX_FILE_BYTES", 1000)
    problems = problems_of(tiny_dataset)
    size = (tiny_dataset / IMAGE).stat().st_size
    assert f"{IMAGE}: {size} bytes; more than 1000 are not supported" in problems


def test_program_writes_the_manifest_or_nothing(tiny_dataset, tmp_path):
    output, log = tmp_path / "out" / "manifest.json", tmp_path / "log.txt"
    good = run_program(
        "check_dataset", "--dataset", tiny_dataset, "--expect", "any", "--processes", 2, "--output", output
    )
    assert good.returncode == 0, good.stderr
    assert "train 4, val 4, test 4 frames" in good.stderr
    assert read_manifest(output)["label_source"] == "labelIds"
    output.unlink()
    for path in tiny_dataset.rglob("*.png"):
        path.write_bytes(b"")
    bad = run_program("check_dataset", "--dataset", tiny_dataset, "--output", output, "--log", log)
    assert_refused(bad, "problems found: 36", f"{IMAGE}: not a PNG: the file is empty")
    assert list(output.parent.iterdir()) == []
    assert log.read_text().count("not a PNG") >= 36


def test_program_refuses_to_write_into_the_dataset(tiny_dataset):
    output = tiny_dataset / "manifest.json"
    assert_refused(run_program("check_dataset", "--dataset", tiny_dataset, "--output", output), "only read")
    assert not output.exists()
