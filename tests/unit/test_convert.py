from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import zlib

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import id2label
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image, __version__
from programs import assert_refused, run_program
from tiny import make_tiny_dataset

from stdc.data import codecs
from stdc.data.convert import convert_labels, labels_digest, read_index
from stdc.data.inventory import check_dataset
from stdc.errors import InputError
from stdc.files import write_json


@pytest.fixture
def convert(tmp_path):
    """Convert a dataset into tmp_path/labels; returns the index."""

    def run(root, processes=1, name="labels"):
        manifest = tmp_path / "manifest.json"
        if not manifest.exists():
            write_json(manifest, check_dataset(root, "any"))
        return convert_labels(root, manifest, tmp_path / name, tmp_path / f"{name}.json", processes=processes)

    return run


def rasters(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def read(path):
    return np.asarray(Image.open(path))


def test_rasters_from_label_ids_follow_the_table(tiny_dataset, tmp_path, convert):
    index = convert(tiny_dataset)
    assert index["source"] == "labelIds"
    assert index["pillow"] is None
    assert json.loads((tmp_path / "labels.json").read_text()) == index
    found = rasters(tmp_path / "labels")
    assert len(found) == 12
    for path in found:
        ids = read(tiny_dataset / path.replace("labelTrainIds", "labelIds"))
        expected = np.array([[id2label[value].trainId for value in row] for row in ids.tolist()])
        assert np.array_equal(read(tmp_path / "labels" / path), expected)
    classes = np.unique(np.concatenate([read(tmp_path / "labels" / path).ravel() for path in found]))
    assert classes.tolist() == [*range(19), 255]


def test_test_split_becomes_void_as_its_ground_truth_is_dummy(tiny_dataset, tmp_path, convert):
    convert(tiny_dataset)
    for path, _ in rasters(tmp_path / "labels/gtFine/test").items():
        assert (read(tmp_path / "labels/gtFine/test" / path) == 255).all()


def test_rasters_from_polygons_equal_those_of_cityscapesscripts(tmp_path, convert):
    root = make_tiny_dataset(tmp_path / "data", label_ids=False, instance_ids=False, color=False)
    index = convert(root)
    assert (index["source"], index["pillow"]) == ("polygons", __version__)
    for path in rasters(tmp_path / "labels"):
        assert np.array_equal(read(tmp_path / "labels" / path), official(root / path))


def official(raster_path):
    annotation = Annotation()
    annotation.fromJsonFile(str(raster_path).replace("labelTrainIds.png", "polygons.json"))
    return np.asarray(createLabelImage(annotation, "trainIds"))


@pytest.mark.real_data
def test_rasters_of_real_footage_equal_those_of_cityscapesscripts(real_dataset, tmp_path, convert):
    index = convert(real_dataset, processes=2)
    found = rasters(tmp_path / "labels")
    assert len(found) == len(index["frames"])
    for path in list(found)[::8]:
        assert np.array_equal(read(tmp_path / "labels" / path), official(real_dataset / path))


def test_index_names_manifest_and_every_raster(tiny_dataset, tmp_path, convert):
    index = convert(tiny_dataset)
    assert index["manifest_sha256"] == hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest()
    found = rasters(tmp_path / "labels")
    for key, digest in index["frames"].items():
        split, frame = key.split("/")
        path = f"gtFine/{split}/{frame.split('_')[0]}/{frame}_gtFine_labelTrainIds.png"
        assert hashlib.sha256(found.pop(path)).hexdigest() == digest
    assert found == {}
    assert read_index(tmp_path / "labels.json", tmp_path / "manifest.json") == index["frames"]


def test_bytes_do_not_depend_on_the_number_of_processes(tiny_dataset, tmp_path, convert):
    assert convert(tiny_dataset, 1, "one") == convert(tiny_dataset, 3, "three")
    assert rasters(tmp_path / "one") == rasters(tmp_path / "three")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "three.json").read_bytes()


def test_frames_without_ground_truth_get_no_raster(tiny_dataset, convert):
    shutil.rmtree(tiny_dataset / "gtFine/test")
    assert {key.split("/")[0] for key in convert(tiny_dataset)["frames"]} == {"train", "val"}


LABEL = "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png"


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "in the manifest but not in the dataset"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not the file that the manifest names"),
        (
            lambda path: shutil.copy(str(path).replace("0_000019", "1_000020"), path),
            "not the file that the manifest names",
        ),
    ],
)
def test_file_changed_since_the_check_is_named_and_leaves_no_index(
    tiny_dataset, tmp_path, convert, processes, damage, said
):
    convert(tiny_dataset)
    damage(tiny_dataset / LABEL)
    with pytest.raises(InputError, match=f"{LABEL}: {said}"):
        convert(tiny_dataset, processes)
    assert not (tmp_path / "labels.json").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_names_the_file_and_leaves_no_index(tiny_dataset, tmp_path, convert, monkeypatch, processes):
    convert(tiny_dataset)
    reserve = os.posix_fallocate

    def full(descriptor, offset, length):
        if "lindau" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left.*lindau_00000._0000.._gtFine_labelTrainIds"):
        convert(tiny_dataset, processes)
    assert not (tmp_path / "labels.json").exists()
    assert not list((tmp_path / "labels").rglob(".tmp*"))


def test_rasters_of_an_earlier_dataset_do_not_stay(tiny_dataset, tmp_path, convert):
    stale = tmp_path / "labels/gtFine/train/ulm/ulm_000000_000019_gtFine_labelTrainIds.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    unfinished = stale.with_name(f".tmp-1-{stale.name}")
    unfinished.write_bytes(b"")
    convert(tiny_dataset)
    assert list(stale.parent.iterdir()) == []


def test_nothing_is_written_into_the_dataset(tiny_dataset, tmp_path):
    write_json(tmp_path / "manifest.json", check_dataset(tiny_dataset, "any"))
    before = sorted(tiny_dataset.rglob("*"))
    for labels, index in ((tiny_dataset / "labels", tmp_path / "i.json"), (tmp_path / "l", tiny_dataset / "i.json")):
        with pytest.raises(InputError, match="only read"):
            convert_labels(tiny_dataset, tmp_path / "manifest.json", labels, index)
    assert sorted(tiny_dataset.rglob("*")) == before


def test_index_of_another_manifest_is_refused(tiny_dataset, tmp_path, convert):
    convert(tiny_dataset)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="made from another manifest"):
        read_index(tmp_path / "labels.json", tmp_path / "other.json")
    with pytest.raises(InputError, match="not an index of label rasters"):
        read_index(tmp_path / "other.json", tmp_path / "other.json")


def test_program_refuses_a_missing_manifest(tiny_dataset, tmp_path):
    result = run_program(
        *("convert_labels", "--dataset", tiny_dataset, "--manifest", tmp_path / "none.json"),
        *("--output", tmp_path / "labels", "--index", tmp_path / "labels.json"),
    )
    assert_refused(result, "none.json: no such file")
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_training_rasters_without_a_pixel_of_a_class_leave_no_index(tmp_path, convert, processes):
    root = make_tiny_dataset(tmp_path / "data", label_ids=False, instance_ids=False, color=False)
    for path in root.glob("gtFine/train/*/*_polygons.json"):
        document = json.loads(path.read_text())
        # Covered altogether, so that the check of the objects' names finds nothing.
        document["objects"].append({"label": "out of roi", "polygon": [[-1, -1], [99, -1], [99, 99], [-1, 99]]})
        path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="train: not one pixel of a trained class"):
        convert(root, processes)
    assert not (tmp_path / "labels.json").exists()


def test_rasters_are_on_the_disk_before_the_index_says_so(tiny_dataset, tmp_path, convert, monkeypatch):
    from stdc.data import convert as module

    seen = []

    def sync(folder):
        seen.append((len(rasters(folder)), (tmp_path / "labels.json").exists()))

    monkeypatch.setattr(module, "sync_files", sync)
    convert(tiny_dataset)
    assert seen == [(12, False)]


def test_disk_that_fails_when_all_is_written_leaves_no_index(tiny_dataset, tmp_path, convert, monkeypatch):
    from stdc.data import convert as module

    def sync(folder):
        raise OSError(errno.EIO, "Input/output error", str(folder))

    monkeypatch.setattr(module, "sync_files", sync)
    with pytest.raises(OSError, match="Input/output error"):
        convert(tiny_dataset)
    assert not (tmp_path / "labels.json").exists()


def test_what_compresses_the_rasters_changes_files_and_no_run(tiny_dataset, tmp_path, convert, monkeypatch):
    # With and without the faster library a raster has other bytes; the weights made from it are the same.
    names = ("labels", "others", "changed")
    convert(tiny_dataset, name=names[0])
    monkeypatch.setattr(codecs, "deflate_runs", lambda data: zlib.compress(bytes(data), 9))
    convert(tiny_dataset, name=names[1])
    files_of = [json.loads((tmp_path / f"{name}.json").read_text())["frames"] for name in names[:2]]
    assert all(files_of[0][key] != files_of[1][key] for key in files_of[0])
    digests = [labels_digest(tmp_path / f"{name}.json") for name in names[:2]]
    assert digests[0] == digests[1]

    pixels = read(next(iter(sorted((tmp_path / "labels").rglob("*_labelTrainIds.png")))))
    said = json.loads((tmp_path / "labels.json").read_text())["pixels"]
    content = f"{pixels.shape[0]}x{pixels.shape[1]}\n".encode()
    for row in range(0, len(pixels), 16):
        content += zlib.crc32(pixels[row : row + 16].tobytes()).to_bytes(4, "little")
    assert hashlib.sha256(content).hexdigest() in said.values()
    monkeypatch.setattr(
        "stdc.data.convert.LABEL_ID_TO_TRAIN_ID", np.roll(np.arange(256, dtype=np.uint8) % 19, 1), raising=True
    )
    convert(tiny_dataset, name=names[2])
    assert labels_digest(tmp_path / "changed.json") != digests[0]


@pytest.mark.parametrize("change", [lambda index: index.pop("pixels"), lambda index: index["pixels"].popitem()])
def test_an_index_that_does_not_say_what_rasters_show_is_made_again(tiny_dataset, tmp_path, convert, change):
    index = convert(tiny_dataset)
    change(index)
    (tmp_path / "labels.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"labels\.json: .*run convert_labels again"):
        labels_digest(tmp_path / "labels.json")
