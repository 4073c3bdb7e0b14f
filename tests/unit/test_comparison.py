"""compare: what differs is told, with the spread over seeds and over images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Sequence

import made_results
import numpy as np
import pytest
from programs import assert_refused, run_program

from stdc.errors import InputError
from stdc.evaluation import metrics
from stdc.report.compare_page import as_text, render
from stdc.results.comparison import compare, read_runs

FRAMES = [f"frankfurt_000000_{number:06d}" for number in range(8)]
CLASSES = 19


def write_results(folder: Path, seeds: Sequence[int] = (0,), **changed: Any) -> Path:
    for seed in seeds:
        made_results.write_seed(folder / f"seed{seed}", seed, FRAMES, (1024, 2048))
    (folder / "config").mkdir(parents=True, exist_ok=True)
    config = made_results.report_config(name=folder.name, seeds=list(seeds), **changed)
    (folder / "config" / "report.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def set_images(folder: Path, intersections: List[List[int]], unions: List[List[int]]) -> None:
    """Give seed 0 these counts by image and class, and no others."""
    path = folder / "seed0" / "metrics.json"
    document = json.loads(path.read_text())
    document["per_image"] = [
        {"frame": frame, "miou": 0.5, "intersection": one, "union": other}
        for frame, one, other in zip(FRAMES, intersections, unions)
    ]
    path.write_text(json.dumps(document))


def with_road(values: Sequence[int]) -> List[List[int]]:
    """Counts of one class alone, one number per image."""
    return [[value] + [0] * (CLASSES - 1) for value in values]


def test_overlaps_of_an_image_give_its_iou():
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    confusion[:2, :2] = [[6, 2], [1, 3]]
    found = metrics.overlaps(confusion)
    assert found["intersection"][:3] == [6, 3, 0] and found["union"][:3] == [9, 6, 0]
    assert metrics.class_iou(confusion)[0] == found["intersection"][0] / found["union"][0]


def test_a_difference_in_every_image_is_certain_and_one_in_a_single_image_is_not(tmp_path):
    base, better, lucky = (write_results(tmp_path / name) for name in ("base", "better", "lucky"))
    unions = with_road([100] * 8)
    set_images(base, with_road([50] * 8), unions)
    set_images(better, with_road([60] * 8), unions)
    set_images(lucky, with_road([90] + [50] * 7), unions)
    scores = dict(compare(read_runs([base, better, lucky])).scores)
    _, plus, chance = scores["road"]
    assert plus.interval == pytest.approx((10, 10)) and plus.certain
    # The lucky image is drawn between 0 and about 3 times of 8; never being drawn is likely: (7/8)**8 = 0.34.
    assert chance.interval[0] == pytest.approx(0) and not chance.certain
    assert chance.interval[1] == pytest.approx(3 * 40 / 8, abs=0.01)


def test_equal_runs_differ_by_nothing_in_any_choice_of_images(tmp_path):
    runs = read_runs([write_results(tmp_path / "a"), write_results(tmp_path / "b")])
    for name, (_, second) in compare(runs).scores:
        assert second.difference in (0, None) and second.interval in ((0, 0), None), name


def test_the_interval_is_that_of_a_bootstrap_written_out(tmp_path):
    """The same resamples by another way: images drawn one by one, counts added up."""
    first, second = write_results(tmp_path / "a"), write_results(tmp_path / "b", seeds=(1, 2))
    (_, (_, score)) = compare(read_runs([first, second])).scores[0]
    entries = [
        [json.loads((folder / f"seed{seed}" / "metrics.json").read_text())["per_image"] for seed in seeds]
        for folder, seeds in ((first, (0,)), (second, (1, 2)))
    ]
    generator = np.random.default_rng(7)
    differences = []
    for _ in range(3000):
        chosen = generator.integers(0, len(FRAMES), len(FRAMES))
        means = []
        for of_run in entries:
            values = []
            for images in of_run:
                inter = sum(np.array(images[index]["intersection"]) for index in chosen)
                union = sum(np.array(images[index]["union"]) for index in chosen)
                values.append(100 * np.mean(inter[union > 0] / union[union > 0]))
            means.append(np.mean(values))
        differences.append(means[1] - means[0])
    # Two bootstraps of some thousand draws: their ends differ by a few hundredths of their width.
    low, high = np.quantile(differences, [0.025, 0.975])
    assert score.interval == pytest.approx((low, high), abs=0.08 * (high - low))


def test_equal_inputs_give_equal_bytes(tmp_path):
    folders = [write_results(tmp_path / "a"), write_results(tmp_path / "b", seeds=(0, 1))]
    assert render(compare(read_runs(folders))) == render(compare(read_runs(folders)))


def test_recipe_rows_are_those_that_differ(tmp_path):
    train = dict(made_results.report_config()["train"], iterations=800, base_lr=0.02)
    runs = read_runs([write_results(tmp_path / "a"), write_results(tmp_path / "b", train=train)])
    rows = dict(compare(runs).recipe)
    assert rows == {"iterations": ["400", "800"], "base lr": ["0.01", "0.02"]}
    shown = as_text(compare(runs))
    assert "base lr" in shown and "momentum" not in shown


def test_seeds_have_a_mean_and_a_spread(tmp_path):
    runs = read_runs([write_results(tmp_path / "a", seeds=(0, 1, 2)), write_results(tmp_path / "b")])
    score = compare(runs).scores[0][1][0]
    values = [100 * seed.metrics["miou"] for seed in runs[0].seeds]
    assert score.mean == pytest.approx(np.mean(values))
    assert (score.low, score.high) == pytest.approx((min(values), max(values)))
    assert f"{score.low:.2f} to {score.high:.2f}" in render(compare(runs))


@pytest.mark.parametrize("missing", ["frames", "counts"])
def test_without_common_images_there_is_a_difference_and_no_interval(tmp_path, missing):
    a, b = write_results(tmp_path / "a"), write_results(tmp_path / "b")
    path = b / "seed0" / "metrics.json"
    document = json.loads(path.read_text())
    if missing == "frames":
        document["per_image"][0]["frame"] = "frankfurt_000009_000009"
    else:
        del document["per_image"][0]["union"]
    path.write_text(json.dumps(document))
    comparison = compare(read_runs([a, b]))
    second = comparison.scores[0][1][1]
    assert second.difference == 0 and second.interval is None and comparison.images.startswith("no intervals: ")


def test_page_escapes_names_and_holds_no_path(tmp_path):
    a, b = write_results(tmp_path / "a"), write_results(tmp_path / "b")
    path = b / "config" / "report.json"
    document = json.loads(path.read_text())
    document["name"] = "<script>alert(1)</script>"
    document["model"]["pretrained"] = {"source": "/home/jane/w.pdparams", "sha256": "ab" * 32}
    path.write_text(json.dumps(document))
    shown = render(compare(read_runs([a, b])))
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "jane" not in shown


def test_runs_of_one_name_are_told_apart_and_one_folder_twice_is_refused(tmp_path):
    a, b = write_results(tmp_path / "one" / "mini"), write_results(tmp_path / "two" / "mini")
    assert [run.label for run in read_runs([a, b])] == ["mini (1)", "mini (2)"]
    with pytest.raises(InputError, match="given twice"):
        read_runs([a, a])
    with pytest.raises(InputError, match="two results folders or more"):
        read_runs([a])


def test_program_prints_a_table_and_writes_a_page(tmp_path):
    a, b = write_results(tmp_path / "a"), write_results(tmp_path / "b", seeds=(1,))
    done = run_program("compare", a, b, "--output", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "mIoU" in done.stdout and "training, images/s" in done.stdout
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert json.loads(run_program("compare", a, b, "--json").stdout)["labels"] == ["a", "b"]
    assert_refused(run_program("compare", a, tmp_path / "none"), "none: no such folder; name a results folder")


def test_a_link_to_itself_in_the_place_of_results_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path / name)
    result = run_program("compare", tmp_path / "a", tmp_path / "b")
    assert_refused(result, str(tmp_path / "a"))
