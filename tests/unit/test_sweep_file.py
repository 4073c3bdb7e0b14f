"""A sweep: the experiments that follow from it, and what does not go together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
LIB = REPOSITORY / "workflow" / "lib"
sys.path.insert(0, str(LIB))

import sweep_file  # noqa: E402

sys.path.remove(str(LIB))

BASE = ("recipe.yaml", {"name": "tiny", "seeds": [0], "train": {"base_lr": 0.01, "iterations": 4}})
NO_WORDS = ("--config", {})


def sweep_of(text: str) -> sweep_file.Sweep:
    """What `sweep_file.read` makes of a file without mistakes; tests/workflow/test_sweep.py reads files."""
    content = yaml.safe_load(text)
    return sweep_file.Sweep(
        "sweep.yaml", content["name"], content.get("recipes", ()), content.get("seeds"), content.get("overrides", {})
    )


def complete(**train: Any) -> Dict[str, Any]:
    """A configuration with all that is compared between experiments."""
    return {
        "hardware": {"device": "cpu", "devices": 1},
        "dataset": None,
        "synthetic": {"seed": 0},
        "data": {"expect": "any", "subset": {"train": None}},
        "model": {"backbone": "stdc1"},
        "train": {"evaluate": True, "visualdl": True, **train},
        "weights": None,
    }


def test_overrides_are_laid_over_the_recipe_and_words_over_both() -> None:
    sweep = sweep_of("name: s\nseeds: [3, 4]\noverrides: {base: {}, high: {train: {base_lr: 0.02}}}")
    base, high = sweep_file.experiments(sweep, [BASE], ("--config", {"train": {"iterations": 8}}))
    assert (base.name, high.name) == ("base", "high")
    assert base.config["train"] == {"base_lr": 0.01, "iterations": 8}
    assert high.config["train"] == {"base_lr": 0.02, "iterations": 8}
    assert base.config["seeds"] == high.config["seeds"] == [3, 4]
    assert BASE[1]["train"] == {"base_lr": 0.01, "iterations": 4}, "the recipe itself stays as it is"


def test_each_recipe_gets_each_override_in_a_folder_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\ntrain: {{iterations: 4}}\n")
    recipes = f"recipes: [{tmp_path}/one.yaml, {tmp_path}/two.yaml]"
    sweep = sweep_of(f"name: s\n{recipes}\noverrides: {{a: {{}}, b: {{train: {{base_lr: 0.1}}}}}}")
    found = sweep_file.experiments(sweep, [BASE], NO_WORDS)
    assert [one.name for one in found] == ["one-a", "one-b", "two-a", "two-b"]
    sweep = sweep_of(f"name: s\n{recipes}")
    assert [one.name for one in sweep_file.experiments(sweep, [BASE], NO_WORDS)] == ["one", "two"]


def test_two_recipes_of_one_name_are_refused(tmp_path: Path) -> None:
    for file in ("one", "two"):
        (tmp_path / f"{file}.yaml").write_text("name: same\n")
    sweep = sweep_of(f"name: s\nrecipes: [{tmp_path}/one.yaml, {tmp_path}/two.yaml]")
    with pytest.raises(sweep_file.SweepError, match="recipes: results/s/same would hold two experiments"):
        sweep_file.experiments(sweep, [BASE], NO_WORDS)


@pytest.mark.parametrize("key", ["name", "weights"])
def test_words_that_contradict_a_sweep_are_refused(key: str) -> None:
    sweep = sweep_of("name: s")
    with pytest.raises(sweep_file.SweepError, match=f"--config: {key}: not beside a sweep"):
        sweep_file.experiments(sweep, [BASE], ("--config", {key: "x"}))


def test_experiments_that_train_the_same_or_differ_in_what_they_share_are_refused() -> None:
    sweep = sweep_of("name: s")
    other_devices = {**complete(base_lr=0.2), "hardware": {"device": "cpu", "devices": 2}}
    lines = sweep_file.contradictions(
        sweep, {"a": complete(), "b": complete(), "c": other_devices, "d": complete(visualdl=False)}
    )
    assert [line.partition("sweep.yaml: ")[2] for line in lines] == [
        "c: hardware.devices is 2, but 1 in a; one sweep has one value of it: the machine is the same for all of them",
        "d: train.visualdl is false, but true in a; one sweep has one value of it: all experiments leave the same "
        "files",
        "a and b are the same training; change something in one of them, or leave it out (one training is scored in "
        "several ways by evaluate.protocols)",
    ]
    assert sweep_file.contradictions(sweep, {"a": complete(), "b": complete(base_lr=0.2)}) == []


def test_what_all_experiments_say_is_told_once() -> None:
    lines = {"a": ["forecast: disk: 1 GB", "forecast: 4 steps"], "b": ["forecast: disk: 1 GB", "forecast: 8 steps"]}
    assert sweep_file.told_once(lines) == ["forecast: disk: 1 GB", "forecast: a: 4 steps", "forecast: b: 8 steps"]
    assert sweep_file.told_once({"": ["forecast: 4 steps"]}) == ["forecast: 4 steps"]


def test_the_table_says_what_each_experiment_changes() -> None:
    sweep = sweep_of("name: s\noverrides: {base: {}, b: {data: {subset: {train: 2}}, train: {base_lr: 0.2}}}")
    found = sweep_file.experiments(sweep, [BASE], NO_WORDS)
    assert sweep_file.table(sweep, found, [0, 1, 2]) == [
        "sweep s: 2 experiments x 3 seeds = 6 trainings, into results/s",
        "  base  recipe.yaml  the recipe as it is",
        "  b     recipe.yaml  data.subset.train=2, train.base_lr=0.2",
    ]
