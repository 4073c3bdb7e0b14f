from __future__ import annotations

from pathlib import Path

import pytest
from programs import assert_refused, run_program
from tiny import tiny_frames

from stdc.data.convert import convert_labels, read_index
from stdc.data.inventory import check_dataset
from stdc.data.lists import make_lists, read_lines, take_subset, write_lists
from stdc.data.manifest import read_manifest
from stdc.errors import InputError, InputErrors
from stdc.files import write_json


@pytest.fixture
def prepared(tiny_dataset, tmp_path):
    """(dataset root, folder with manifest.json, labels/ and labels.json)."""
    write_json(tmp_path / "manifest.json", check_dataset(tiny_dataset, "any"))
    convert_labels(tiny_dataset, tmp_path / "manifest.json", tmp_path / "labels", tmp_path / "labels.json")
    return tiny_dataset, tmp_path


def lists_of(folder, subset=None):
    manifest = folder / "manifest.json"
    return make_lists(read_manifest(manifest), read_index(folder / "labels.json", manifest), subset)


@pytest.mark.parametrize("separator", [",", "\t", " ", "||"])
def test_written_lists_read_back_as_pairs_of_one_frame(prepared, separator):
    root, folder = prepared
    write_lists(folder, lists_of(folder), separator)
    for split in ("train", "val", "test"):
        lines = read_lines(folder / f"{split}.txt", separator)
        frames = tiny_frames(root, split)
        assert [Path(line.image).name for line in lines] == [f"{frame}_leftImg8bit.png" for frame in frames]
        assert [Path(line.label).name for line in lines] == [f"{frame}_gtFine_labelTrainIds.png" for frame in frames]


def test_line_is_image_separator_label_with_relative_paths(prepared):
    _, folder = prepared
    write_lists(folder, lists_of(folder), ",")
    assert (folder / "train.txt").read_text().splitlines()[0] == (
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png,"
        "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png"
    )


def test_path_that_holds_the_separator_is_refused_before_anything_is_written(prepared):
    _, folder = prepared
    lists = lists_of(folder)
    lists["val"] = [(path.replace("lindau", "lin,dau"), label) for path, label in lists["val"]]
    with pytest.raises(InputError, match=r"lin,dau.*holds the separator ',' of the list; set data.separator"):
        write_lists(folder / "lists", lists, ",")
    assert not (folder / "lists").exists()
    write_lists(folder / "lists", lists, "\t")
    lists["val"] = [("a\nb", "c")]
    with pytest.raises(InputError, match=r"a\\nb: a line break"):
        write_lists(folder / "lists", lists, ",")


@pytest.mark.parametrize("separator", ["", "\n", "a\nb", "\r", "\u2028"])
def test_unusable_separator_is_refused(tmp_path, separator):
    with pytest.raises(InputError, match=r"data\.separator"):
        write_lists(tmp_path, {}, separator)


def entries(**cities):
    return [
        {"frame": f"{city}_{number:06d}_000019", "city": city}
        for city, count in cities.items()
        for number in range(count)
    ]


def test_subset_is_even_over_cities_as_far_as_these_reach():
    frames = entries(aachen=10, bochum=2, cologne=7)
    for count in range(1, 20):
        chosen = take_subset(frames, count, "key")
        assert len({entry["frame"] for entry in chosen}) == count
        assert chosen == sorted(chosen, key=lambda entry: entry["frame"])
        share = {city: sum(entry["city"] == city for entry in chosen) for city in ("aachen", "bochum", "cologne")}
        # Round robin: who has less than the largest share is either used up or one turn behind.
        for city, total in (("aachen", 10), ("bochum", 2), ("cologne", 7)):
            assert share[city] == total or share[city] >= max(share.values()) - 1
    assert take_subset(frames, 19, "key") == frames


def test_subset_is_spread_within_a_city():
    chosen = take_subset(entries(aachen=9), 3, "key")
    assert [entry["frame"][7:13] for entry in chosen] == ["000001", "000004", "000007"]


@pytest.mark.parametrize("count", [0, -1, 5])
def test_subset_larger_than_the_split_names_the_key(prepared, count):
    _, folder = prepared
    with pytest.raises(InputError, match=f"data.subset.val: {count} frames asked for, expected 1 to 4"):
        lists_of(folder, {"train": 1, "val": count})


def test_frame_without_raster_is_refused(prepared):
    _, folder = prepared
    index = read_index(folder / "labels.json", folder / "manifest.json")
    del index["val/lindau_000000_000019"]
    with pytest.raises(InputError, match="1 frames have no label raster, first val/lindau_000000_000019"):
        make_lists(read_manifest(folder / "manifest.json"), index)


IMAGE = "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
LABEL = "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png"
OTHER = "gtFine/train/aachen/aachen_000001_000020_gtFine_labelTrainIds.png"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (IMAGE, "1 fields, expected <image>,<label>"),
        (f"{IMAGE};{LABEL}", "1 fields"),
        (f"{IMAGE},{LABEL},", "3 fields"),
        (f"{LABEL},{IMAGE}", "expected <city>_<6 digits>_<6 digits>_leftImg8bit.png"),
        (f"{IMAGE},{OTHER}", "image of frame aachen_000000_000019 with label of frame aachen_000001_000020"),
        (f"../cityscapes/{IMAGE},{LABEL}", "leaves"),
        (f"{IMAGE},/etc/passwd", "label /etc/passwd leaves"),
        (",", "image  leaves"),
        ("\x1b[2Jnonsense", "1 fields, expected <image>,<label>: \\x1b[2Jnonsense"),
    ],
)
def test_bad_line_is_named_by_its_number(prepared, line, said):
    _, folder = prepared
    good = f"{IMAGE.replace('000000_000019', '000001_000020')},{OTHER}"
    (folder / "train.txt").write_text(f"{good}\n\n{line}\n")
    with pytest.raises(InputErrors) as caught:
        read_lines(folder / "train.txt", ",")
    (problem,) = caught.value.problems
    assert problem.startswith("line 3: ")
    assert said in problem


def test_all_bad_lines_are_listed(prepared):
    _, folder = prepared
    (folder / "train.txt").write_text(f"x\n{IMAGE},{LABEL}\n{IMAGE},{LABEL}\ny,z\n")
    with pytest.raises(InputErrors) as caught:
        read_lines(folder / "train.txt", ",")
    assert [problem[:7] for problem in caught.value.problems] == ["line 1:", "line 3:", "line 4:"]
    assert "the image of line 2 again" in caught.value.problems[1]


def test_list_saved_by_a_windows_editor_is_read(prepared):
    _, folder = prepared
    (folder / "train.txt").write_bytes(b"\xef\xbb\xbf" + f"{IMAGE},{LABEL}\r\n".encode())
    assert len(read_lines(folder / "train.txt", ",")) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"", "the list is empty"), (b" \n\n", "the list is empty"), (b"\xff\0", "not readable")],
)
def test_missing_empty_or_binary_list_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_lines(tmp_path / "train.txt", ",")


def test_program_takes_a_subset_and_equal_runs_give_equal_bytes(prepared):
    _, folder = prepared
    inputs = ("--manifest", folder / "manifest.json", "--index", folder / "labels.json")
    for name in ("one", "two"):
        options = ("--separator", "\t", "--subset-train", 2, "--subset-val", 1, "--output", folder / name)
        result = run_program("create_lists", *inputs, *options)
        assert result.returncode == 0, result.stderr
    cities = [line.split("/")[2] for line in (folder / "one/train.txt").read_text().splitlines()]
    assert cities == ["aachen", "bochum"]
    for split, count in (("train", 2), ("val", 1), ("test", 4)):
        text = (folder / "one" / f"{split}.txt").read_bytes()
        assert text == (folder / "two" / f"{split}.txt").read_bytes()
        assert text.count(b"\n") == count
    bad = run_program("create_lists", *inputs, "--subset-train", 99, "--output", folder / "three")
    assert_refused(bad, "data.subset.train: 99 frames asked for")
    assert not (folder / "three").exists()
