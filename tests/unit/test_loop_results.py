"""The table of `make parity-loop`: what is no result of it is refused, and the spread is that of a sample."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "parity" / "loop"
JOB = {"iterations": 300, "batch": 4, "crop_width": 320, "crop_height": 240, "train_images": 100}


@pytest.fixture(scope="module")
def loop_results() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loop_results", FOLDER / "loop_results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def document(side: str = "ours", seed: int = 0, miou: float = 0.13, **changes: Any) -> Dict[str, Any]:
    figures = {"miou": miou, "pixel_accuracy": 2 * miou}
    made = {"side": side, "seed": seed, "job": JOB, "figures": figures, "losses": [], "kernel": None}
    return {**made, **changes}


def test_a_result_comes_back_as_it_was_written_and_a_missing_one_is_none(
    tmp_path: Path, loop_results: ModuleType
) -> None:
    path = tmp_path / "one.json"
    assert loop_results.read_result(path, "ours", 0, JOB) is None
    path.write_text(json.dumps({**document(), "training_s": 1200}))
    found = loop_results.read_result(path, "ours", 0, JOB)
    assert (found.figures, found.job) == ({"miou": 0.13, "pixel_accuracy": 0.26}, JOB)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a result"),
        ("[]", "not a result"),
        (json.dumps({"side": "ours"}), "not a result"),
        (json.dumps(document(figures={"miou": 0.1})), "not a result"),
        (json.dumps(document(miou=13.0)), "no fractions"),
        (json.dumps(document(miou=math.nan)), "no fractions"),
        (json.dumps(document(seed=1)), "another training"),
        (json.dumps(document(side="paddleseg")), "another training"),
        (json.dumps(document(job={**JOB, "iterations": 5})), "another training"),
    ],
)
def test_what_is_no_result_of_this_training_is_refused_with_its_file(
    tmp_path: Path, loop_results: ModuleType, text: str, words: str
) -> None:
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        loop_results.read_result(path, "ours", 0, JOB)
    assert str(path) in str(caught.value)


def test_the_table_shows_mean_deviation_and_distance_in_standard_errors(loop_results: ModuleType) -> None:
    figures = {"ours": (0.10, 0.12, 0.14), "paddleseg-fixed": (0.13, 0.15, 0.17)}
    found = [
        loop_results.Result(**document(side, seed, miou))
        for side, mious in figures.items()
        for seed, miou in enumerate(mious)
    ]
    text = loop_results.table(found)
    # Deviation 2 points each, so the standard error of the difference is sqrt(2 * 4 / 3) = 1.63 points.
    assert "| this code | 3 | 12.0 ± 2.0 (10.0, 12.0, 14.0) | 24.0 ± 4.0 (20.0, 24.0, 28.0) |" in text
    assert "- mIoU: -3.0 points, -1.8 standard errors" in text
    assert "as drawn" not in text


def test_one_training_per_side_has_no_spread(loop_results: ModuleType) -> None:
    text = loop_results.table([loop_results.Result(**document(side)) for side in ("ours", "paddleseg")])
    assert "13.0 ± nan (13.0)" in text
    assert "+0.0 points, +nan standard errors" in text


def test_the_loss_is_that_of_the_main_head_over_the_last_third(loop_results: ModuleType) -> None:
    steps = [{"iteration": 10 * number, "lr": 9.0, "images_per_s": 9.0} for number in range(1, 31)]
    for name in ("ohem", "main"):
        losses = [{**step, name: 5.0 if step["iteration"] <= 200 else step["iteration"] / 100} for step in steps]
        # 2.1, 2.2, … 3.0
        assert loop_results.Result(**document(losses=losses)).last_loss == pytest.approx(2.55)
    assert math.isnan(loop_results.Result(**document()).last_loss)


def test_without_the_footage_the_program_says_so(tmp_path: Path) -> None:
    arguments = ["--dataset", str(tmp_path / "absent"), "--output", str(tmp_path / "made")]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run_loop.py"), *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, (tmp_path / "made").exists()) == (2, False)
    assert "NO REAL FOOTAGE" in done.stderr
