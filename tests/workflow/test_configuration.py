"""What reaches the rules, and what a wrong configuration gets: one line per mistake, exit code 2, nothing started."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import pytest
import yaml
from snakemake_runs import REPOSITORY, TINY, Workflow
from tiny import RECIPES, SMOKE

from stdc import recipe
from stdc.presets import PRESETS

pytestmark = pytest.mark.workflow

SCHEMA = yaml.safe_load((REPOSITORY / "workflow" / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
#: Every part that the section `train` is cut into.
PARTS = [*recipe.PARTS.values(), recipe.Loop]


def keys(schema: Dict[str, Any], path: Tuple[str, ...] = ()) -> Iterator[Tuple[Tuple[str, ...], Dict[str, Any]]]:
    """Every key of the schema that holds a value."""
    for name, part in schema.get("properties", {}).items():
        if part["type"] == "object":
            yield from keys(part, (*path, name))
        else:
            yield (*path, name), part
            if "items" in part:
                yield from keys(part["items"], (*path, name))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("iterations: 4", "iteratons: 4", "train.iteratons: unknown key; did you mean iterations?"),
        ("name: tiny", "name: tiny\nnonsense: 1", "nonsense: unknown key"),
        ("iterations: 4", "iterations: four", "train.iterations: 'four' is not a whole number"),
        ("iterations: 4", "iterations: 4.5", "train.iterations: 4.5 is not a whole number"),
        ("iterations: 4", "iterations: true", "train.iterations: True is not a whole number"),
        ("iterations: 4", "iterations: 0", "train.iterations: 0 is out of range; at least 1"),
        ("iterations: 4", "iterations: 4\n  base_lr: .nan", "train.base_lr: nan is not a finite number"),
        ("preset: paddleseg", "preset: pytorch", "train.preset: 'pytorch' is not one of paddleseg, authors"),
        ("seeds: [0]", "seeds: [0, 0]", "seeds: [0, 0] names something twice"),
        ("seeds: [0]", "seeds: 0", "seeds: 0 is not a list"),
        ("name: tiny", "name: ../tiny", "name: '../tiny' does not have the form"),
        ("global_batch: 2", "global_batch: 1", "train.global_batch: 1 for 2 devices; each needs one image at least"),
        ("name: tiny", "", "name: missing"),
        ("name: tiny", 'name: "tiny\\n"', "name: 'tiny\\n' has a character that is not printed"),
        ("seeds: [0]", "data: {expect: cityscapes}", "dataset: none given, but this recipe is for the full Cityscapes"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line_that_names_file_and_key(
    workflow: Workflow, old: str, new: str, expected: str
) -> None:
    text = TINY.read_text(encoding="utf-8").replace("devices: 1", "devices: 2")
    assert text.count(old) == 1
    (workflow.place / "mine.yaml").write_text(text.replace(old, new), encoding="utf-8")
    outcome = workflow("--cores", 1, "--configfile", "mine.yaml")
    assert outcome.returncode == 2
    assert len(outcome.problems()) == 1
    assert outcome.problems()[0].startswith(f"stdc: mine.yaml: {expected}")
    assert "Traceback" not in outcome.text
    assert sorted(path.name for path in workflow.place.iterdir() if path.name != ".snakemake") == ["mine.yaml"]


def test_all_mistakes_are_told_at_once(workflow: Workflow) -> None:
    words = ["sede=3", "train={iterations: x, foo: 3}", "speed={height: 3}"]
    outcome = workflow("--cores", 1, "--configfile", TINY, "--config", *words)
    assert outcome.returncode == 2
    told = [line.split(": ")[2] for line in outcome.problems()]
    assert sorted(told) == ["sede", "speed.height", "train.foo", "train.iterations"]
    assert all(line.startswith("stdc: --config: ") for line in outcome.problems())


@pytest.mark.parametrize(
    "text",
    ["name: [", "- a list", "name: x\n\ttab: 1", "__use_yte__: true\n__definitions__: [open('pwned', 'w')]\nname: x"],
)
def test_a_file_that_is_no_recipe_is_refused_before_snakemake_reads_it(workflow: Workflow, text: str) -> None:
    (workflow.place / "mine.yaml").write_text(text, encoding="utf-8")
    outcome = workflow("--cores", 1, "--configfile", "mine.yaml")
    assert outcome.returncode == 2
    (line,) = outcome.problems()
    assert line.startswith("stdc: mine.yaml: ")
    assert "Traceback" not in outcome.text
    assert [path.name for path in workflow.place.iterdir()] == ["mine.yaml"]


def test_a_recipe_that_is_not_there_is_one_line(workflow: Workflow) -> None:
    outcome = workflow("--cores", 1, "--configfile", "nope.yaml")
    assert outcome.returncode == 2
    assert outcome.problems() == ["stdc: nope.yaml: no such file"]


def test_a_missing_dataset_is_refused_before_anything_runs(workflow: Workflow) -> None:
    outcome = workflow("--cores", 1, "--configfile", TINY, "--config", "dataset=/no/such folder")
    assert outcome.returncode == 2
    (line,) = outcome.problems()
    assert line.startswith("stdc: dataset: /no/such folder: no such folder; give the folder that holds leftImg8bit")
    assert not (workflow.place / "resources").exists()


def test_a_dataset_that_is_a_file_is_refused(workflow: Workflow) -> None:
    (workflow.place / "data.zip").write_bytes(b"")
    outcome = workflow("--cores", 1, "--configfile", TINY, "--config", "dataset=data.zip")
    assert outcome.returncode == 2
    assert "data.zip: not a folder" in outcome.problems()[0]


def test_words_of_the_command_line_get_the_types_of_the_schema(workflow: Workflow) -> None:
    words = [
        "seeds=[3, 4]",
        "name=2024",
        "train={iterations: 6, base_lr: 1e-3, evaluate: false, warmup_iterations: null, mean: [0.1, 0.2, 0.3]}",
    ]
    workflow.run("--configfile", TINY, "--config", *words, "--", "results/2024/config/train.json")
    train = json.loads((workflow.place / "results/2024/config/train.json").read_text(encoding="utf-8"))["train"]
    assert train["iterations"] == 6 and isinstance(train["iterations"], int)
    assert train["base_lr"] == 0.001
    assert train["evaluate"] is False
    assert train["warmup_iterations"] is None
    assert train["mean"] == [0.1, 0.2, 0.3]
    # The rest of the section is the recipe's.
    assert train["crop_width"] == 64


def test_exponents_without_a_point_are_numbers(workflow: Workflow) -> None:
    """YAML 1.1 takes `1e-3` for text."""
    text = TINY.read_text(encoding="utf-8").replace("iterations: 4", "iterations: 4\n  base_lr: 1e-3")
    (workflow.place / "mine.yaml").write_text(text, encoding="utf-8")
    workflow.run("--configfile", "mine.yaml", "--", "results/tiny/config/train.json")
    assert json.loads((workflow.place / "results/tiny/config/train.json").read_text())["train"]["base_lr"] == 0.001


def test_a_recipe_alone_determines_the_run(workflow: Workflow) -> None:
    """The mini recipe, which Snakemake loads without one, does not shine through a recipe on the command line."""
    (workflow.place / "bare.yaml").write_text("name: bare\n", encoding="utf-8")
    workflow.run("--configfile", "bare.yaml", "--", "results/bare/config/train.json", "results/bare/config/speed.json")
    train = json.loads((workflow.place / "results/bare/config/train.json").read_text(encoding="utf-8"))["train"]
    defaults = {path[1]: part["default"] for path, part in keys(SCHEMA) if path[0] == "train"}
    assert train == defaults
    stage = json.loads((workflow.place / "results/bare/config/speed.json").read_text(encoding="utf-8"))
    assert (stage["speed"]["height"], stage["speed"]["width"]) == (1024, 2048)
    # What the network is computed with, so that inference is timed as it is trained and evaluated; and no more.
    kernels = [field.name for field in dataclasses.fields(recipe.Kernels)]
    assert stage["train"] == {key: defaults[key] for key in ("preset", *kernels)}


def test_schema_and_recipe_dataclass_have_the_same_keys() -> None:
    in_schema = list(SCHEMA["properties"]["train"]["properties"])
    in_parts = [field.name for part in PARTS for field in dataclasses.fields(part)]
    # Each key belongs to exactly one part.
    assert sorted(in_schema) == sorted(["preset", *in_parts])
    assert set(SCHEMA["properties"]["train"]["properties"]["preset"]["enum"]) == set(PRESETS)
    governed = {key for key, part in SCHEMA["properties"]["train"]["properties"].items() if "null" in part["type"]}
    assert governed == set(PRESETS["paddleseg"])


@pytest.mark.parametrize(
    "part", [*PARTS, recipe.Network, recipe.Evaluation, recipe.Speed], ids=lambda part: part.__name__
)
def test_schema_and_recipe_dataclass_have_the_same_bounds_and_defaults(part: Any) -> None:
    stated = SCHEMA["properties"][part.section]["properties"]
    for field in dataclasses.fields(part):
        known = stated[field.name]
        limits = known.get("items", known)
        for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if field.name in ("crop_height", "crop_width") and bound == "minimum":
                # The crops of the dataset may be of any size; the network needs 32 pixels, which the stage checks.
                continue
            assert limits.get(bound) == field.metadata.get(bound), f"{field.name}: {bound}"
        if "known" in field.metadata:
            assert set(known["enum"]) - {None} == set(field.metadata["known"]), field.name
        expected = None if field.default is dataclasses.MISSING else field.default
        if field.name in PRESETS["paddleseg"] or expected is not None:
            assert known["default"] == expected, field.name


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_schema_allows_the_values_of_the_presets(preset: str) -> None:
    parts = SCHEMA["properties"]["train"]["properties"]
    for key, value in PRESETS[preset].items():
        part = parts[key]
        for number in [value] if not isinstance(value, tuple) else value:
            limits = part.get("items", part)
            if isinstance(number, str):
                assert number in part.get("enum", [number])
                continue
            assert number >= limits.get("minimum", number)
            assert number <= limits.get("maximum", number)
            assert number > limits.get("exclusiveMinimum", number - 1)
            assert number < limits.get("exclusiveMaximum", number + 1)


def test_every_key_is_described_and_has_a_default() -> None:
    for path, part in keys(SCHEMA):
        name = ".".join(path)
        assert part.get("description"), name
        assert "default" in part or path[-1] == "name", name
        if {"integer", "number"} & set(part["type"] if isinstance(part["type"], list) else [part["type"]]):
            assert "minimum" in part or "exclusiveMinimum" in part, name
            # Fractions and factors without dimension need no unit; counts and lengths do.
            assert "unit" in part or "integer" not in part["type"] or "seed" in name, name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_state_only_what_the_schema_knows_and_the_programs_accept(path: Path, workflow: Workflow) -> None:
    dataset = workflow.place / "data"
    (dataset / "leftImg8bit").mkdir(parents=True)
    words = [f"dataset={dataset}", "hardware={devices: 1}", "require_comparable=false"]
    workflow.plan("--configfile", path, "--config", *words)
    recipe.resolve(yaml.safe_load(path.read_text(encoding="utf-8"))["train"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_smoke_overlay_makes_a_run_of_minutes_of_every_recipe(path: Path, workflow: Workflow) -> None:
    dataset = workflow.place / "data"
    (dataset / "leftImg8bit").mkdir(parents=True)
    options = ["--configfile", path, SMOKE, "--config", f"dataset={dataset}"]
    # No weights are fetched, and the one protocol is evaluated for the final and for the best weights.
    assert "fetch_weights" not in workflow.plan(*options)
    workflow.run(*options, "--", "results/smoke/config/train.json")
    told = json.loads((workflow.place / "results" / "smoke" / "config" / "train.json").read_text(encoding="utf-8"))
    made = recipe.resolve(told["train"])
    assert (made.schedule.iterations, made.schedule.global_batch) == (20, 8)
    assert (made.augmentation.crop_height, made.augmentation.crop_width) == (128, 256)
    # What the recipe is stays: its preset, its network.
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert told["train"]["preset"] == own["train"]["preset"]
    assert told["model"]["backbone"] == own["model"]["backbone"]


@pytest.mark.parametrize(
    ("name", "backbone", "devices"),
    [
        ("stdc1_cityscapes_1024x512_80k", "stdc1", 8),
        ("stdc1_cityscapes_1024x512_80k_batch48", "stdc1", 4),
        ("stdc2_cityscapes_1024x512_80k", "stdc2", 4),
    ],
)
def test_the_published_recipe_is_the_published_one(name: str, backbone: str, devices: int) -> None:
    """Against PaddleSeg 2.7's configuration file and DeepSparkHub's command, read by hand."""
    config = yaml.safe_load((REPOSITORY / "config" / f"{name}.yaml").read_text())
    assert config["name"] == name and config["require_comparable"] is True
    train = config["train"]
    resolved = recipe.resolve(train)
    assert config["model"]["backbone"] == backbone
    assert config["data"]["expect"] == "cityscapes"
    schedule, augmentation = resolved.schedule, resolved.augmentation
    assert (augmentation.crop_width, augmentation.crop_height, schedule.iterations) == (1024, 512, 80000)
    assert schedule.per_device_batch(devices) == 12
    assert (schedule.base_lr, schedule.poly_power, schedule.end_lr, schedule.warmup_iterations) == (0.01, 0.9, 0.0, 0)
    assert (resolved.optimizer.momentum, resolved.optimizer.weight_decay) == (0.9, 4.0e-5)
    losses = resolved.losses
    assert (losses.ohem_rule, losses.ohem_threshold, losses.ohem_min_kept) == ("paddleseg", 0.7, 10000)
    assert (augmentation.scale_min, augmentation.scale_max, augmentation.scale_step) == (0.5, 2.0, 0.25)
    assert (train["save_interval"], train["evaluate"], train["visualdl"]) == (500, True, True)
    assert (resolved.kernels.cudnn_exhaustive_search, resolved.kernels.cudnn_batchnorm_spatial_persistent) == (
        True,
        True,
    )
