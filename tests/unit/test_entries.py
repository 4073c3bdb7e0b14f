"""What training and evaluation read is what was checked."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from stdc.data.convert import convert_labels, read_index
from stdc.data.entries import image_entries, read_entries, read_prepared
from stdc.data.inventory import check_dataset
from stdc.data.lists import make_lists, write_lists
from stdc.data.manifest import read_manifest
from stdc.data.verified import read_verified
from stdc.errors import InputError, InputErrors
from stdc.files import write_json

FRAME = "aachen_000000_000019"
IMAGE = f"leftImg8bit/train/aachen/{FRAME}_leftImg8bit.png"
LABEL = f"gtFine/train/aachen/{FRAME}_gtFine_labelTrainIds.png"


@pytest.fixture
def folder(tiny_dataset, tmp_path):
    """Everything that the data stages leave; the dataset is in `cityscapes`."""
    manifest, index = tmp_path / "manifest.json", tmp_path / "labels.json"
    write_json(manifest, check_dataset(tiny_dataset, "any"))
    convert_labels(tiny_dataset, manifest, tmp_path / "labels", index)
    write_lists(tmp_path, make_lists(read_manifest(manifest), read_index(index, manifest)), ",")
    return tmp_path


def prepared(folder):
    return read_prepared(folder / "cityscapes", folder / "labels", folder / "manifest.json", folder / "labels.json")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_entries_carry_the_digest_of_each_file(folder):
    entries = read_entries(folder / "train.txt", "train", prepared(folder), ",")
    assert [entry.frame for entry in entries] == sorted(entry.frame for entry in entries)
    assert len(entries) == 4
    for entry in entries:
        for path, digest in (
            (entry.image, entry.image_sha256),
            (entry.label, entry.label_sha256),
            (entry.instances, entry.instances_sha256),
        ):
            assert entry.frame in path.name
            assert digest == sha256(path)


def test_images_of_a_split_need_no_ground_truth(folder):
    entries = image_entries(folder / "cityscapes", read_manifest(folder / "manifest.json"), "test")
    assert [entry.label for entry in entries] == [None] * 4
    assert all(entry.image_sha256 == sha256(entry.image) for entry in entries)


def test_list_of_another_split_is_refused(folder):
    with pytest.raises(InputErrors) as caught:
        read_entries(folder / "val.txt", "train", prepared(folder), ",")
    assert len(caught.value.problems) == 4
    assert caught.value.problems[0].endswith("belongs to split val, this is a list of train")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{IMAGE.replace('000019', '000099')},{LABEL.replace('000019', '000099')}", "not in the manifest"),
        (f"{IMAGE.replace('/aachen/', '/./aachen/')},{LABEL}", "not in the manifest"),
        (f"{IMAGE},{LABEL.replace('/aachen/', '/bochum/')}", f"expected {LABEL}"),
        (f"{IMAGE}, {LABEL}", f"expected {LABEL}"),
    ],
    ids=["unknown frame", "path spelled otherwise", "raster elsewhere", "space"],
)
def test_line_that_the_manifest_does_not_know_is_named_by_its_number(folder, line, said):
    (folder / "odd.txt").write_text(f"\n{line}\n")
    with pytest.raises(InputErrors) as caught:
        read_entries(folder / "odd.txt", "train", prepared(folder), ",")
    (problem,) = caught.value.problems
    assert problem.startswith("line 2: ")
    assert said in problem


@pytest.mark.parametrize("path", [f"cityscapes/{IMAGE}", f"labels/{LABEL}"])
def test_file_that_is_gone_is_named_before_anything_is_read(folder, path):
    (folder / path).unlink()
    with pytest.raises(InputErrors, match="no such file"):
        read_entries(folder / "train.txt", "train", prepared(folder), ",")


def test_frame_without_a_raster_in_the_index_is_refused(folder):
    index = json.loads((folder / "labels.json").read_text())
    del index["frames"][f"train/{FRAME}"]
    write_json(folder / "labels.json", index)
    with pytest.raises(InputErrors, match="not in the index of label rasters"):
        read_entries(folder / "train.txt", "train", prepared(folder), ",")


def test_bytes_are_compared_at_first_sight_and_whenever_the_file_has_changed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"checked")
    digest = sha256(path)
    for _ in range(2):
        assert read_verified(path, digest).tobytes() == b"checked"
    status = path.stat()
    path.write_bytes(b"swapped")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(InputError, match="file: not the file that was checked"):
            read_verified(path, digest)
    assert read_verified(path).tobytes() == b"swapped"


def test_what_is_no_file_neither_hangs_nor_passes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "none"):
        with pytest.raises(InputError, match=r"no such file|not a file"):
            read_verified(tmp_path / name, "0" * 64)


def test_file_that_cannot_be_read_now_is_a_fault_and_not_wrong_input(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x")

    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("numpy.fromfile", fails)
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_verified(tmp_path / "file", "0" * 64)
    assert caught.value.filename == str(tmp_path / "file")
