"""The run hash: what starts a new run and what does not."""

import shutil
from pathlib import Path

import pytest

from stdc import recipe
from stdc.training import identity

PACKAGE = Path(identity.__file__).resolve().parents[1]
TRAIN = {"preset": "paddleseg", "iterations": 10, "global_batch": 4, "crop_height": 64, "crop_width": 64}


def make(train=TRAIN, **changes):
    values = {
        "train_recipe": recipe.resolve(train),
        "model": {"backbone": "stdc1", "pretrained": {"source": "/a/b", "sha256": None}},
        "seed": 0,
        "world_size": 1,
        "threads": 2,
        "device_kind": "cpu",
        "evaluate_every": 5,
        "inputs": {"manifest": "m", "train_list": "t", "val_list": "v", "backbone": None},
    }
    values.update(changes)
    return identity.run_hash(identity.run_identity(**values))


def test_equal_settings_are_one_run():
    assert make() == make()


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {**TRAIN, "base_lr": 0.02}},
        {"train": {**TRAIN, "iterations": 11}},
        {"train": {**TRAIN, "preset": "authors", "warmup_iterations": 0}},
        {"seed": 1},
        {"world_size": 2},
        {"threads": 1},
        {"evaluate_every": 0},
        {"model": {"backbone": "stdc2"}},
        {"inputs": {"manifest": "other", "train_list": "t", "val_list": "v", "backbone": None}},
        {"inputs": {"manifest": "m", "train_list": "t", "val_list": "v", "backbone": "w"}},
    ],
)
def test_what_changes_the_weights_is_another_run(changes):
    assert make(**changes) != make()


def test_where_equal_weights_came_from_does_not_count():
    assert make(model={"backbone": "stdc1", "pretrained": {"source": "https://other", "sha256": "x"}}) == make()


@pytest.fixture()
def package(tmp_path):
    for folder in ("nn", "data", "training"):
        shutil.copytree(PACKAGE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "recipe.py", tmp_path)
    return tmp_path


def test_comment_docstring_and_layout_do_not_throw_a_run_away(package):
    before = identity.code_sha256(package)
    assert before == identity.code_sha256()
    path = package / "nn" / "losses.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"""Losses', '"""The losses', 1) + "\n\n# a remark\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    assert identity.code_sha256(package) == before


def test_changed_arithmetic_is_another_run(package):
    before = identity.code_sha256(package)
    path = package / "nn" / "losses.py"
    text = path.read_text(encoding="utf-8")
    assert "EDGE_THRESHOLD = 0.1" in text
    path.write_text(text.replace("EDGE_THRESHOLD = 0.1", "EDGE_THRESHOLD = 0.2"), encoding="utf-8")
    assert identity.code_sha256(package) != before


def test_code_outside_the_loop_does_not_count(package):
    before = identity.code_sha256(package)
    (package / "training" / "records.py").write_text("x = 1\n", encoding="utf-8")
    assert identity.code_sha256(package) == before


def test_moved_code_is_not_forgotten_silently(package):
    (package / "training" / "schedule.py").unlink()
    with pytest.raises(RuntimeError, match=r"training/schedule\.py"):
        identity.code_sha256(package)
