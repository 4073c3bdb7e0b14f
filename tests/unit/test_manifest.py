"""A manifest that someone has edited is refused in words, wherever it was edited."""

from __future__ import annotations

import copy

import pytest

from stdc.data.inventory import check_dataset
from stdc.data.manifest import read_manifest
from stdc.errors import InputError
from stdc.files import write_json


@pytest.fixture
def manifest(tiny_dataset):
    return check_dataset(tiny_dataset, "any")


def test_manifest_of_the_check_is_read_back(manifest, tmp_path):
    write_json(tmp_path / "manifest.json", manifest)
    assert read_manifest(tmp_path / "manifest.json")["frames"] == manifest["frames"]


def first(change):
    return lambda manifest: change(manifest["frames"][0])


EDITS = {
    "list": (lambda manifest: [manifest], "no JSON object"),
    "format": (lambda manifest: manifest.update(format=2), "format is 2"),
    "format true": (lambda manifest: manifest.update(format=True), "format is True"),
    "source": (lambda manifest: manifest.update(label_source=["x"]), "label_source is neither"),
    "frames missing": (lambda manifest: manifest.__delitem__("frames"), "frames are missing"),
    "frames empty": (lambda manifest: manifest.update(frames=[]), "frames are missing"),
    "frame null": (lambda manifest: manifest["frames"].append(None), "frame 12: split is missing"),
    "frame twice": (lambda manifest: manifest["frames"].append(manifest["frames"][0]), "occurs twice"),
    "split list": (first(lambda frame: frame.update(split=[])), "frame 0: split is missing or unknown"),
    "city": (first(lambda frame: frame.update(city="ulm")), "frame and city do not belong together"),
    "city number": (first(lambda frame: frame.update(city=7)), "frame and city do not belong together"),
    "frame leaves": (
        first(lambda frame: frame.update(frame="../x_000000_000000", city="../x")),
        "frame and city do not belong together",
    ),
    "size missing": (first(lambda frame: frame.__delitem__("size")), "size is not"),
    "size of three": (first(lambda frame: frame.update(size=[1, 2, 3])), "size is not"),
    "size text": (first(lambda frame: frame.update(size=["32", "64"])), "size is not"),
    "size zero": (first(lambda frame: frame.update(size=[0, 64])), "size is not"),
    "image null": (first(lambda frame: frame.update(image=None)), "image has no path"),
    "image text": (first(lambda frame: frame.update(image="x")), "image has no path"),
    "label digest": (first(lambda frame: frame["label"].update(sha256="abc")), "label has no path or no SHA-256"),
    "image absolute": (first(lambda frame: frame["image"].update(path="/etc/passwd")), "image leaves"),
    "image above": (first(lambda frame: frame["image"].update(path="../a")), "image leaves"),
    "image of another frame": (
        lambda manifest: manifest["frames"][0].update(image=copy.deepcopy(manifest["frames"][1]["image"])),
        "image is not the file of its frame",
    ),
}


@pytest.mark.parametrize(("edit", "said"), EDITS.values(), ids=list(EDITS))
def test_edited_manifest_is_refused_with_the_reason(manifest, tmp_path, edit, said):
    changed = edit(manifest)
    write_json(tmp_path / "manifest.json", changed if isinstance(changed, list) else manifest)
    with pytest.raises(InputError, match=r"manifest.json: not a manifest of format 1; make it again") as caught:
        read_manifest(tmp_path / "manifest.json")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
