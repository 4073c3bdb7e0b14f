from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import make_tiny_dataset

from stdc.data.layout import IMAGE, frame_city, frame_of, read_layout, refuse_inside, stays_inside
from stdc.errors import InputError, shown

AACHEN = "leftImg8bit/train/aachen"
FRAME = "aachen_000000_000019"


def test_frames_are_found_with_all_their_files(tiny_dataset):
    layout = read_layout(tiny_dataset)
    assert layout.problems == []
    assert len(layout.frames) == 12
    frame = layout.frames[("train", FRAME)]
    assert frame.city == "aachen"
    assert frame.files == {
        "image": f"{AACHEN}/{FRAME}_leftImg8bit.png",
        "polygons": f"gtFine/train/aachen/{FRAME}_gtFine_polygons.json",
        "labelIds": f"gtFine/train/aachen/{FRAME}_gtFine_labelIds.png",
        "instanceIds": f"gtFine/train/aachen/{FRAME}_gtFine_instanceIds.png",
    }


def test_wrapper_folders_of_the_zips_are_accepted(tmp_path):
    layout = read_layout(make_tiny_dataset(tmp_path, wrappers=True))
    assert layout.problems == []
    image = layout.frames[("train", FRAME)].files[IMAGE]
    assert image == f"leftImg8bit_trainvaltest/{AACHEN}/{FRAME}_leftImg8bit.png"


def test_two_copies_of_a_tree_are_a_problem(tiny_dataset):
    (tiny_dataset / "gtFine_trainvaltest" / "gtFine").mkdir(parents=True)
    assert read_layout(tiny_dataset).problems == [
        "gtFine and gtFine_trainvaltest/gtFine: two copies; which one counts? Remove one"
    ]


@pytest.mark.parametrize("name", [".DS_Store", "._aachen_000000_000019_leftImg8bit.png", "Thumbs.db", "readme.txt"])
def test_litter_is_overlooked(tiny_dataset, name):
    (tiny_dataset / AACHEN / name).write_bytes(b"x")
    assert read_layout(tiny_dataset).problems == []


def test_unused_kinds_of_ground_truth_are_overlooked(tiny_dataset):
    (tiny_dataset / "gtFine/train/aachen" / f"{FRAME}_gtFine_labelTrainIds.png").write_bytes(b"x")
    (tiny_dataset / "leftImg8bit/train_extra/aachen").mkdir(parents=True)
    assert read_layout(tiny_dataset).problems == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (f"{AACHEN}/{FRAME}_leftImg8bit.jpg", "unexpected file; names here end with _leftImg8bit.png"),
        (f"{AACHEN}/{FRAME}_leftImg8bit_blurred.png", "unexpected file"),
        (f"{AACHEN}/aachen_0_19_leftImg8bit.png", "expected aachen_<6 digits>_<6 digits>_leftImg8bit.png"),
        (f"{AACHEN}/bochum_000000_000019_leftImg8bit.png", "belongs to bochum but lies in the folder of aachen"),
        (f"gtFine/train/aachen/{FRAME}_labelIds.png", "unexpected file"),
        ("gtFine/train/aachen/annotations.json", "unexpected file"),
        ("leftImg8bit/train/x_000000_000000_leftImg8bit.png", "leftImg8bit/train: 1 files in no city folder"),
    ],
)
def test_misplaced_file_is_named(tiny_dataset, made, said):
    (tiny_dataset / made).write_bytes(b"x")
    (problem,) = read_layout(tiny_dataset).problems
    assert said in problem
    assert Path(made).name in problem


def test_city_folder_without_files_is_left_out_in_words(tiny_dataset):
    (tiny_dataset / "leftImg8bit/val/munster").mkdir()
    layout = read_layout(tiny_dataset)
    assert layout.problems == []
    assert layout.left_out == ["leftImg8bit/val/munster: no _leftImg8bit.png in it"]


def test_folder_in_place_of_a_file_is_a_problem(tiny_dataset):
    (tiny_dataset / AACHEN / "aachen_000009_000019_leftImg8bit.png").mkdir()
    (problem,) = read_layout(tiny_dataset).problems
    assert "is a folder, expected a file" in problem


def test_links_inside_the_dataset_are_followed(tiny_dataset, tmp_path):
    city = tiny_dataset / AACHEN
    city.rename(tmp_path / "elsewhere")
    city.symlink_to(tmp_path / "elsewhere")
    assert read_layout(tiny_dataset).problems == []
    assert ("train", FRAME) in read_layout(tiny_dataset).frames


def test_broken_link_and_pipe_are_problems_and_never_opened(tiny_dataset):
    (tiny_dataset / AACHEN / "aachen_000008_000019_leftImg8bit.png").symlink_to("nowhere")
    os.mkfifo(tiny_dataset / AACHEN / "aachen_000009_000019_leftImg8bit.png")
    broken, pipe = read_layout(tiny_dataset).problems
    assert "broken link" in broken
    assert "neither a file nor a folder" in pipe


def test_name_that_is_not_text_is_shown_escaped(tiny_dataset):
    (tiny_dataset / AACHEN / os.fsdecode(b"aachen\xff_000000_000000_leftImg8bit.png")).write_bytes(b"x")
    (problem,) = read_layout(tiny_dataset).problems
    assert problem.isprintable()
    assert "not UTF-8" in problem


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_text("x"), "is not a folder"),
        (lambda root: root.mkdir(), "neither leftImg8bit/ nor gtFine/ is in it"),
        (lambda root: (root / "deeper/leftImg8bit").mkdir(parents=True), "deeper holds one"),
        (
            lambda root: (root.mkdir(), (root / "gtFine_trainvaltest.zip").write_bytes(b"x")),
            "gtFine_trainvaltest.zip must be unpacked first",
        ),
    ],
)
def test_absent_dataset_is_explained_with_the_way_to_get_it(tmp_path, prepare, said):
    prepare(tmp_path / "data")
    with pytest.raises(InputError) as caught:
        read_layout(tmp_path / "data")
    message = str(caught.value)
    assert said in message
    for part in ("Register", "csDownload", "gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip", "dataset: null"):
        assert part in message


def test_root_one_level_too_deep_is_explained(tiny_dataset):
    with pytest.raises(InputError, match="name the folder above it"):
        read_layout(tiny_dataset / "gtFine")


def test_frame_name_needs_city_and_two_numbers():
    assert frame_city("bad-honnef_000000_000019") == "bad-honnef"
    assert frame_city("new_york_000000_000019") == "new_york"
    for bad in ("aachen_00000_000019", "aachen_000000_000019 ", "_000000_000019", "aachen_000000", ""):
        assert frame_city(bad) is None
    assert frame_of(f"a/b/{FRAME}_leftImg8bit.png", "_leftImg8bit.png") == FRAME
    assert frame_of(f"a/b/{FRAME}_leftImg8bit.png", "_gtFine_labelIds.png") is None


def test_only_relative_paths_without_parents_stay_inside():
    assert stays_inside("a/b..c/d")
    for path in ("", "/a", "..", "a/../b", "a/..", "a\0b"):
        assert not stays_inside(path)


def test_nothing_may_be_written_into_a_dataset(tiny_dataset, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tiny_dataset)
    refuse_inside(tmp_path / "cityscapes-labels", tiny_dataset, "x")
    for output in (tiny_dataset, tiny_dataset / "labels", link / "labels", tiny_dataset / "gtFine/../labels"):
        with pytest.raises(InputError, match="only read"):
            refuse_inside(output, tiny_dataset, "the labels")


def test_shown_text_is_one_line():
    assert shown("münster\n") == "münster\\n"


def test_name_with_escapes_and_marks_is_shown_spelled_out(tiny_dataset):
    # U+202E turns the direction of writing: what follows would be read from right to left.
    for name in ("\x1b[31mred.png", "\u202egnp.xxx.png", os.fsdecode(b"\xff\xfe.png")):
        (tiny_dataset / AACHEN / name).write_bytes(b"x")
    problems = "\n".join(read_layout(tiny_dataset).problems)
    for spelled in (r"\x1b[31mred.png", r"\u202egnp.xxx.png", r"\udcff\udcfe.png"):
        assert spelled in problems
    assert problems.replace("\n", "").isprintable()


def test_folder_with_escapes_in_its_name_is_shown_spelled_out(tmp_path):
    from programs import assert_refused, run_program

    root = tmp_path / "\x1b]0;title\x07 \u202e"
    root.mkdir()
    result = run_program("check_dataset", "--dataset", root, "--output", tmp_path / "m.json", "--log", tmp_path / "log")
    assert_refused(result, r"\x1b]0;title\x07 \u202e")
    assert result.stderr.replace("\n", "").isprintable()
    assert "\x1b" not in (tmp_path / "log").read_text()
