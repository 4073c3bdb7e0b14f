"""A sweep summed up: spread over seeds, every two experiments, and the pages made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Sequence

import made_results
import pytest
from programs import assert_refused, run_program

from stdc.errors import InputError
from stdc.report.sweep_page import render
from stdc.results.comparison import compare
from stdc.results.sweep_summary import Pair, Spread, read_sweep, spread_of, spread_text, summarize

FRAMES = [f"frankfurt_000000_{number:06d}" for number in range(8)]


def write_results(folder: Path, seeds: Sequence[int] = (0, 1), **changed: Any) -> Path:
    for seed in seeds:
        made_results.write_seed(folder / f"seed{seed}", seed, FRAMES, (1024, 2048))
    (folder / "config").mkdir(parents=True, exist_ok=True)
    config = made_results.report_config(name=f"study-{folder.name}", seeds=list(seeds), **changed)
    (folder / "config" / "report.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def set_images(folder: Path, seed: int, right: Sequence[int]) -> None:
    """Of 100 pixels of road in each image, and of nothing else, so many are right."""
    path = folder / f"seed{seed}" / "metrics.json"
    document = json.loads(path.read_text())
    document["per_image"] = [
        {"frame": frame, "miou": 0.5, "intersection": [count] + [0] * 18, "union": [100] + [0] * 18}
        for frame, count in zip(FRAMES, right)
    ]
    path.write_text(json.dumps(document))


@pytest.fixture
def folders(tmp_path: Path) -> List[Path]:
    return [write_results(tmp_path / name) for name in ("base", "fast", "few")]


def test_mean_and_standard_deviation_are_those_of_a_sample() -> None:
    # Worked out by hand: the squares are 4, 0 and 4, of which half is 4.
    assert spread_of([70.0, 72.0, 74.0]) == Spread([70.0, 72.0, 74.0], 72.0, 2.0, 70.0, 74.0)
    assert spread_of([70.0]) == Spread([70.0], 70.0, None, 70.0, 70.0)
    assert spread_of([70.0, None]) is None
    assert spread_text(spread_of([70.0, 72.0, 74.0])) == "72.00 ± 2.00 (3 seeds)"
    assert spread_text(spread_of([70.0])) == "70.00 (1 seed)"


def test_every_two_experiments_are_held_against_each_other(folders: List[Path]) -> None:
    for place, folder in enumerate(folders):
        for seed in (0, 1):
            set_images(folder, seed, [50 + 10 * place + index for index in range(len(FRAMES))])
    summary = summarize("study", read_sweep(folders))
    assert [(pair.first, pair.second) for pair in summary.pairs] == [
        ("base", "fast"),
        ("base", "few"),
        ("fast", "few"),
    ]
    # 10 and 20 points in each image, whichever are drawn.
    assert [pair.interval for pair in summary.pairs] == [
        pytest.approx(interval) for interval in ((10, 10), (20, 20), (10, 10))
    ]
    assert [one.name for one in summary.experiments] == ["base", "fast", "few"]
    assert all(one.miou is not None and one.miou.sd is not None for one in summary.experiments)


@pytest.mark.parametrize(
    ("seeds", "interval", "certain"),
    [
        ([1.0, 2.0], (0.5, 2.5), True),
        ([1.0, -0.1], (0.2, 0.9), False),
        ([1.0, 2.0], (-0.1, 2.5), False),
        # One seed says nothing of others.
        ([1.0], (0.5, 2.5), False),
        ([1.0, 2.0], None, False),
    ],
)
def test_a_difference_is_marked_where_neither_images_nor_seeds_turn_it(
    seeds: List[float], interval: Any, certain: bool
) -> None:
    spread = spread_of(seeds)
    assert spread is not None
    assert Pair("a", "b", spread, interval).certain is certain


def test_program_writes_table_page_and_document(folders: List[Path], tmp_path: Path) -> None:
    outputs = [tmp_path / f"summary.{kind}" for kind in ("json", "md", "html")]
    result = run_program(
        "summarize", "--name", "study", "--json", outputs[0], "--markdown", outputs[1], "--page", outputs[2], *folders
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(outputs[0].read_text())
    assert [one["name"] for one in document["experiments"]] == ["base", "fast", "few"]
    assert document["experiments"][0]["seeds"] == [0, 1] and len(document["pairs"]) == 3
    assert document["lines"][0] == "sweep study: mIoU of the final weights, %"
    assert "[report](fast/report.html)" in outputs[1].read_text()
    page = outputs[2].read_text()
    assert 'href="few/report.html"' in page and "Every two of them" in page and "Recipe" in page


def test_one_experiment_has_a_summary_without_pairs(folders: List[Path]) -> None:
    runs = read_sweep(folders[:1])
    summary = summarize("study", runs)
    assert summary.pairs == [] and len(summary.lines()) == 2
    assert "Every two of them" not in render(summary, compare(runs))


def test_experiments_with_other_seeds_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    one, other = write_results(tmp_path / "one"), write_results(tmp_path / "other", seeds=(0,))
    with pytest.raises(InputError, match=r"seeds \[0\], but \[0, 1\] in .*one; seeds are compared one by one"):
        read_sweep([one, other])
    (one / "seed1" / "metrics.json").write_text("{")
    names = ("--json", tmp_path / "s.json", "--markdown", tmp_path / "s.md", "--page", tmp_path / "s.html")
    assert_refused(run_program("summarize", "--name", "s", *names, one), "seed1/metrics.json: not readable as JSON")
    assert not list(tmp_path.glob("s.*"))
