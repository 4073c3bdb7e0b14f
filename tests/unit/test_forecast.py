"""The forecast: it never differs from the verdict, it tells the cost, and it refuses where it is asked to."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import yaml
from programs import REPOSITORY, assert_refused, run_program
from tiny import RECIPES

from stdc.data.labels import TRAIN_NAMES
from stdc.errors import InputError
from stdc.published.configured_run import configured_run
from stdc.published.evidence import SeedMetrics, evidence_of_results
from stdc.published.forecast import figure_lines, forecast, planned_evidence, refusal
from stdc.published.planned_cost import cost_lines, known_speed
from stdc.published.planned_dataset import Dataset, look_at_dataset
from stdc.published.reference import load_reference
from stdc.published.verdict import judge

REFERENCE = load_reference()
SCHEMA = yaml.safe_load((REPOSITORY / "workflow" / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
REGISTRY = yaml.safe_load((REPOSITORY / "stdc" / "weights" / "registry.yaml").read_text(encoding="utf-8"))
OFFICIAL = {"train": 2975, "val": 500}
CITYSCAPES = Dataset("folder", "/data/cityscapes", OFFICIAL)
DATASETS = [
    CITYSCAPES,
    Dataset("archives", "/data/zips", OFFICIAL),
    Dataset("folder", "/data/camvid", {"train": 367, "val": 101}),
    Dataset("synthetic", "generated", {"train": 48, "val": 16}),
]
#: What the run is compared by; other sections, such as speed, say nothing about the weights or the scores.
SECTIONS = ("data", "model", "train", "evaluate")


def filled(value: Any, schema: Dict[str, Any]) -> Any:
    """A configuration with the schema's defaults, as Snakemake hands it on."""
    if isinstance(value, dict):
        parts = schema.get("properties", {})
        defaults = {key: copy.deepcopy(part["default"]) for key, part in parts.items() if "default" in part}
        return {key: filled(item, parts.get(key, {})) for key, item in {**defaults, **value}.items()}
    return [filled(item, schema.get("items", {})) for item in value] if isinstance(value, list) else value


def recipe_of(path: Path) -> Dict[str, Any]:
    return filled(yaml.safe_load(path.read_text(encoding="utf-8")), SCHEMA)


def published(**train: Any) -> Dict[str, Any]:
    """The recipe of 0.7466, started from given weights."""
    config = filled({"name": "published"}, SCHEMA)
    config["data"]["expect"] = "cityscapes"
    config["model"]["pretrained"]["source"] = "stdc1.pdparams"
    config["train"].update({"global_batch": 96, **train})
    return config


def outcome(config: Dict[str, Any], dataset: Dataset) -> Dict[str, Any]:
    """The verdict of a run that went as configured: written down here without any help of the forecast."""
    counts = dict(dataset.frames or {})
    subset = config["data"]["subset"]
    size = [1024, 2048] if counts == OFFICIAL and dataset.kind != "synthetic" else [360, 480]
    protocols = [
        {
            "miou": 0.5,
            "class_iou": dict.fromkeys(TRAIN_NAMES, 0.5),
            "images": subset["val"] or counts["val"],
            "protocol": {
                **protocol,
                "size": size,
                "precision": "float32",
                "backend": f"{config['evaluate']['backend']} 1.0 cpu",
            },
        }
        for protocol in config["evaluate"]["protocols"]
    ]
    metrics = {**protocols[0], "protocols": protocols}
    evidence = evidence_of_results(
        configured_run(config),
        dataset_kind=dataset.kind,
        manifest={
            "expected": config["data"]["expect"],
            "label_source": "labelIds",
            "splits": {split: {"frames": count} for split, count in counts.items()},
        },
        seeds=[
            SeedMetrics(seed, metrics, metrics if config["train"]["evaluate"] else None) for seed in config["seeds"]
        ],
    )
    return judge(evidence, REFERENCE)


def told_before(config: Dict[str, Any], dataset: Dataset) -> Dict[str, Any]:
    return forecast(planned_evidence(configured_run(config), dataset), REFERENCE)


#: Only looking at the images shows their size; a dataset of another size is known to be another one all the same.
ONLY_SEEN = ("labels of ",)


def assert_equal(config: Dict[str, Any], dataset: Dataset) -> None:
    before, after = told_before(config, dataset), outcome(config, dataset)
    for row, judged in zip(before["rows"], after["comparisons"]):
        assert row["id"] == judged["id"]
        seen = [text for text in judged["reasons"] if not text.startswith(ONLY_SEEN) or text in row["reasons"]]
        assert row["reasons"] == seen, row["id"]
        assert (judged["verdict"] == "NOT COMPARABLE") == bool(row["reasons"]), row["id"]
    assert len(before["comparable"]) == after["compared"]
    if not after["compared"]:
        assert before["nearest"] == after["decisive"]


def changes(schema: Dict[str, Any], path: Tuple[str, ...] = ()) -> Iterator[Tuple[Tuple[str, ...], List[Any]]]:
    """Every key that a run is compared by, with other values for it."""
    for name, part in schema["properties"].items():
        here = (*path, name)
        if not path and name not in SECTIONS:
            continue
        types = [part["type"]] if isinstance(part["type"], str) else part["type"]
        if types == ["object"]:
            yield from changes(part, here)
        elif "enum" in part:
            yield here, list(part["enum"])
        elif "boolean" in types:
            yield here, [True, False]
        elif {"integer", "number"} & set(types):
            low = part.get("minimum", part.get("exclusiveMinimum", 0))
            yield here, [low + 1 if "integer" in types else low + 0.25] + ([None] if "null" in types else [])
        elif name == "source":
            yield here, [None, "other.pdparams"]
        elif name in ("mean", "std"):
            yield here, [[0.4, 0.5, 0.6], None]
        elif name == "protocols":
            yield (
                here,
                [
                    [{"name": "half", "scales": [0.5], "flip": False}],
                    [
                        {"name": "all", "scales": [1.25, 0.75, 1.0], "flip": True},
                        {"name": "one", "scales": [1.0], "flip": False},
                    ],
                ],
            )


CHANGES = list(changes(SCHEMA))


def changed(config: Dict[str, Any], path: Tuple[str, ...], value: Any) -> Dict[str, Any]:
    made = copy.deepcopy(config)
    section = made
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return made


def is_recipe(config: Dict[str, Any]) -> bool:
    """Whether the values go together; Snakemake refuses the others before any forecast."""
    try:
        planned_evidence(configured_run(config), CITYSCAPES)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: f"{dataset.kind}-{dataset.frames['val']}")
def test_forecast_and_verdict_agree_on_every_shipped_recipe(path: Path, dataset: Dataset) -> None:
    assert_equal(recipe_of(path), dataset)


def test_forecast_and_verdict_agree_whatever_key_is_changed() -> None:
    tried = 0
    for path, values in CHANGES:
        for value in values:
            for start in (published(), published(preset="authors", iterations=60000, global_batch=48)):
                config = changed(start, path, value)
                if is_recipe(config):
                    assert_equal(config, CITYSCAPES)
                    tried += 1
    assert tried > 150


def test_forecast_and_verdict_agree_on_recipes_changed_at_random() -> None:
    generator = random.Random(13)
    starts = [recipe_of(path) for path in RECIPES] + [published()] * 4
    comparable = tried = 0
    while tried < 100:
        config = copy.deepcopy(generator.choice(starts))
        for path, values in generator.sample(CHANGES, generator.randint(0, 4)):
            config = changed(config, path, generator.choice(values))
        if is_recipe(config):
            dataset = generator.choice([*DATASETS, CITYSCAPES, CITYSCAPES])
            assert_equal(config, dataset)
            comparable += bool(told_before(config, dataset)["comparable"])
            tried += 1
    # Both outcomes are among them, or the agreement would say little.
    assert 5 < comparable < 95


def test_recipe_of_the_seed_figure_is_comparable_with_it_alone() -> None:
    assert told_before(published(), CITYSCAPES)["comparable"] == ["bi_v100_stdc1"]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("stdc1_cityscapes_1024x512_80k", ["bi_v100_stdc1"]),
        (
            "stdc1_cityscapes_1024x512_80k_batch48",
            ["paddleseg_stdc1", "paddleseg_stdc1_flip", "paddleseg_stdc1_ms_flip"],
        ),
        ("stdc2_cityscapes_1024x512_80k", ["paddleseg_stdc2", "paddleseg_stdc2_flip", "paddleseg_stdc2_ms_flip"]),
    ],
)
def test_shipped_recipe_with_its_weights_is_comparable_with_its_figures(name: str, figures: List[str]) -> None:
    config = recipe_of(REPOSITORY / "config" / f"{name}.yaml")
    assert config["require_comparable"] is True
    entry = REGISTRY[config["model"]["pretrained"]["source"]]
    assert (entry["network"], entry["whole"]) == (config["model"]["backbone"], False)
    assert told_before(config, CITYSCAPES)["comparable"] == figures
    # Without the weights a training of days would end in NOT COMPARABLE, so it does not begin.
    config["model"]["pretrained"]["source"] = None
    assert "model.pretrained.source: the ImageNet weights" in str(refusal(told_before(config, CITYSCAPES)))


def test_names_of_weights_in_the_table_of_figures_are_in_the_registry() -> None:
    for name, backbone in REFERENCE.backbones.items():
        for weights in (*backbone.started_from, *backbone.not_started_from):
            assert (REGISTRY[weights]["network"], REGISTRY[weights]["whole"]) == (name, False)
    trained = {figure.published_with: figure.backbone for figure in REFERENCE.figures if figure.published_with}
    assert len(trained) == 2
    for weights, backbone_name in trained.items():
        assert (REGISTRY[weights]["network"], REGISTRY[weights]["whole"]) == (backbone_name, True)


# ---- the refusal


def test_refusal_names_the_keys_to_change() -> None:
    config = published(global_batch=12, base_lr=0.02)
    config["model"]["pretrained"]["source"] = None
    text = refusal(told_before(config, CITYSCAPES))
    assert text is not None and "74.66 %" in text
    for change in ("model.pretrained.source: the ImageNet weights", "train.global_batch: 96", "train.base_lr: null"):
        assert change in text
    assert refusal(told_before(published(), CITYSCAPES)) is None


def test_a_run_that_starts_tells_what_is_in_reach_and_the_nearest_of_the_rest_alone() -> None:
    config = published(iterations=5, base_lr=0.02)
    evidence, found = planned_evidence(configured_run(config), CITYSCAPES), told_before(config, CITYSCAPES)
    brief = figure_lines(found, evidence, brief=True)
    whole = figure_lines(found, evidence)
    assert brief[0] == whole[0] == "comparable with none of 6 published figures of STDC1-Seg"
    assert [line[:7] for line in brief if " % " in line] == ["  74.66"]
    assert brief[-1] == "5 more in a dry run (-n), with what speaks against each"
    assert sum(" % " in line for line in whole) == 6
    config = published()
    evidence, found = planned_evidence(configured_run(config), CITYSCAPES), told_before(config, CITYSCAPES)
    assert sum(" % " in line for line in figure_lines(found, evidence, brief=True)) == len(found["comparable"]) == 1


def test_nearest_figure_is_one_of_the_same_network() -> None:
    config = published(iterations=5)
    config["model"]["backbone"] = "stdc2"
    found = told_before(config, CITYSCAPES)
    assert found["comparable"] == [] and found["nearest"] == "paddleseg_stdc2"
    assert "model.backbone" not in str(refusal(found))


# ---- the dataset


def test_dataset_is_told_by_kind_and_counted_by_name(tmp_path: Path) -> None:
    run = configured_run(published())
    for split, count in (("train", 3), ("val", 2)):
        folder = tmp_path / "whole" / "leftImg8bit" / split / "aachen"
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"aachen_{number:06d}_000019_leftImg8bit.png").touch()
    assert look_at_dataset(run, str(tmp_path / "whole")) == Dataset(
        "folder", str(tmp_path / "whole"), {"train": 3, "val": 2}
    )
    zips = tmp_path / "zips"
    zips.mkdir()
    with zipfile.ZipFile(zips / "leftImg8bit_trainvaltest.zip", "w") as archive:
        archive.writestr("leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png", "")
    assert look_at_dataset(run, str(zips)) == Dataset("archives", str(zips), {"train": 0, "val": 1})
    (zips / "leftImg8bit_trainvaltest.zip").write_bytes(b"no archive")
    assert look_at_dataset(run, str(zips)).frames is None
    generated = look_at_dataset(configured_run({**published(), "data": {}, "synthetic": {"train": 8, "val": 2}}), None)
    assert (generated.kind, generated.frames) == ("synthetic", {"train": 8, "val": 2})
    with pytest.raises(InputError, match="no such folder"):
        look_at_dataset(run, str(tmp_path / "nowhere"))


# ---- the cost


def test_images_in_several_passes_speak_against_every_figure_beforehand() -> None:
    run = configured_run({**published(), "hardware": {"micro_batch": 6}})
    seen = [planned_evidence(run, CITYSCAPES, devices).micro_batch for devices in (1, 8, 16, 1000)]
    assert seen == [6, 6, None, None]
    reasons = [row["reasons"] for row in forecast(planned_evidence(run, CITYSCAPES, 8), REFERENCE)["rows"]]
    assert any("saw 6 images per forward pass" in reason for row in reasons for reason in row)


def test_cost_is_that_worked_out_by_hand() -> None:
    evidence = planned_evidence(configured_run(published()), CITYSCAPES)
    lines = cost_lines(evidence, REFERENCE, None, 8)
    assert lines[0] == "80000 iterations of 96 images: 7,680,000 samples, 2581.5 epochs of 2975"
    # 7,680,000 / 14.36 / 3600 = 148.6 hours, and an eighth of it.
    assert "18.6 hours" in lines[1] and "149 hours" in lines[1]


def speed_file(folder: Path, images_per_s: Any, crop: int = 512, device: str = "gpu") -> None:
    folder.mkdir(parents=True)
    made = {
        "config": {"model": {"backbone": "stdc1"}},
        "recipe": {"crop_height": crop, "crop_width": 1024},
        "hardware": {"device": device},
    }
    (folder / "provenance.json").write_text(json.dumps(made), encoding="utf-8")
    speed = {"training": {"images_per_s_per_device": images_per_s}}
    (folder / "speed.json").write_text(json.dumps(speed), encoding="utf-8")


def test_hours_come_from_a_finished_run_of_the_same_network_crop_and_device(tmp_path: Path) -> None:
    evidence = planned_evidence(configured_run(published()), CITYSCAPES)
    speed_file(tmp_path / "results/other/seed0", 1000.0, crop=64)
    speed_file(tmp_path / "results/cpu/seed0", 1000.0, device="cpu")
    speed_file(tmp_path / "results/broken/seed0", "fast")
    assert known_speed(evidence, tmp_path, "gpu", 4) is None
    speed_file(tmp_path / "results/mine/seed1", 20.0)
    speed = known_speed(evidence, tmp_path, "gpu", 4)
    assert speed is not None and speed.images_per_s == 80.0 and "results/mine/seed1/speed.json" in speed.text
    # 7,680,000 / 80 / 3600
    assert cost_lines(evidence, REFERENCE, speed, 4)[1].startswith("about 26.7 hours of training")


# ---- the program


def test_program_tells_dataset_cost_and_figures(tmp_path: Path) -> None:
    done = run_program("forecast", "--config", REPOSITORY / "config/config.yaml", "--json", tmp_path / "forecast.json")
    assert done.returncode == 0, done.stderr
    assert "dataset: generated, a mini-Cityscapes: 48 training and 16 validation images" in done.stdout
    assert "100 iterations of 8 images: 800 samples" in done.stdout
    assert "comparable with none of 6 published figures of STDC1-Seg" in done.stdout
    assert "evaluated on 16 generated images" in done.stdout
    written = json.loads((tmp_path / "forecast.json").read_text(encoding="utf-8"))
    assert written["comparable"] == [] and written["dataset"]["kind"] == "synthetic"


def test_program_refuses_what_must_be_comparable_and_is_not(tmp_path: Path) -> None:
    recipe = {**published(global_batch=10), "require_comparable": True}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    result = run_program("forecast", "--config", path)
    assert_refused(result, "require_comparable is true", "train.global_batch: 96", "require_comparable: false")
    path.write_text(yaml.safe_dump({**recipe, "train": {**recipe["train"], "global_batch": 96}}), encoding="utf-8")
    accepted = run_program("forecast", "--config", path)
    assert accepted.returncode == 0 and "comparable with 1 of 6 published figures" in accepted.stdout


@pytest.mark.parametrize("text", ["a: [", "- a list", "model: 3", "train: {preset: pytorch}", "\x00"])
def test_program_refuses_what_is_no_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert_refused(run_program("forecast", "--config", path))
