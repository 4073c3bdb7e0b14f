"""What a newcomer gets: the mini recipe from nothing, twice, in two places."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Tuple

import pytest
from programs import run_program
from snakemake_runs import REPOSITORY, Workflow

#: A minute on an idle machine; one that is busy with something else may take ten times as long.
RUN_LIMIT_S = 900

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(2 * RUN_LIMIT_S)]

#: What must not depend on when and where it was made. Manifest and index stand for the dataset and the labels.
EQUAL = [
    "results/mini/seed0/model.pdparams",
    "results/mini/seed0/best.pdparams",
    "results/mini/seed0/metrics.json",
    "results/mini/seed0/metrics_best.json",
    "resources/*/manifest.json",
    "resources/*/labels.json",
    "resources/*/lists-*/train.txt",
    "resources/*/lists-*/val.txt",
    "resources/*/lists-*/test.txt",
]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Workflow, Workflow]:
    """Two runs of the embedded default, each in a folder of its own; the second one up to what is compared."""
    runs = []
    for name, targets in (("first", []), ("second place", ["--", *(path for path in EQUAL if "metrics" in path)])):
        place = tmp_path_factory.mktemp("mini") / name
        place.mkdir()
        run = Workflow(REPOSITORY, place)
        outcome = run.run(*targets, timeout_s=RUN_LIMIT_S, typed=True)
        assert outcome.jobs()["train"] == 1
        runs.append(run)
    return runs[0], runs[1]


def test_two_runs_from_nothing_give_the_same_bytes(twice: Tuple[Workflow, Workflow]) -> None:
    first, second = twice
    for pattern in EQUAL:
        (one,) = first.place.glob(pattern)
        other = second.place / one.relative_to(first.place)
        assert one.read_bytes() == other.read_bytes(), pattern


def test_histories_differ_in_timings_only(twice: Tuple[Workflow, Workflow]) -> None:
    def events(run: Workflow) -> list:
        lines = (run.place / "results/mini/seed0/history.jsonl").read_text(encoding="utf-8").splitlines()
        timings = ("images_per_s", "reader_wait_share", "time")
        return [{key: value for key, value in json.loads(line).items() if key not in timings} for line in lines]

    assert events(twice[0]) == events(twice[1])


def test_there_is_a_report_and_a_verdict(twice: Tuple[Workflow, Workflow]) -> None:
    results = twice[0].place / "results" / "mini"
    json.loads((results / "verdict.json").read_text(encoding="utf-8"))
    assert "<html" in (results / "report.html").read_text(encoding="utf-8")[:2000]


def test_both_backends_predict_the_validation_images_alike(twice: Tuple[Workflow, Workflow]) -> None:
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is not installed in this Python")
    metrics = json.loads((twice[0].place / "results/mini/seed0/metrics.json").read_text(encoding="utf-8"))
    compared = metrics["backend_comparison"]
    assert metrics["protocol"]["backend"].startswith("paddle") and compared["backend"].startswith("onnxruntime")
    assert (compared["images"], compared["pixels"]) == (16, 16 * 128 * 256)
    # Seen: none. Two classes may be as good as equal at a pixel.
    assert compared["differing_pixels"] <= 16


def test_a_trained_network_is_exported_by_name(twice: Tuple[Workflow, Workflow]) -> None:
    outcome = twice[0].run("--", "export")
    assert outcome.jobs() == {"export": 1}
    folder = twice[0].place / "results/mini/export"
    description = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} >= {"export.json", *description["files"]}
    metrics = json.loads((twice[0].place / "results/mini/seed0/metrics.json").read_text(encoding="utf-8"))
    assert description["weights_sha256"] == metrics["protocol"]["weights_sha256"]


def test_the_second_time_there_is_nothing_to_do(twice: Tuple[Workflow, Workflow]) -> None:
    assert twice[0].run().jobs() == {}


def test_it_visibly_learns(twice: Tuple[Workflow, Workflow], tmp_path: Path) -> None:
    """At least three times the mIoU of the same network before training."""
    place = twice[0].place
    weights = tmp_path / "untrained.pdparams"
    make = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import paddle; paddle.seed(0)\n"
        "from stdc.weights.array_files import write_pdparams\n"
        "from stdc.nn.segmentor import build_segmentor\n"
        "from stdc.nn.state import state_arrays\n"
        "write_pdparams(sys.argv[2], state_arrays(build_segmentor('stdc1')))\n"
    )
    subprocess.run([sys.executable, "-c", make, str(REPOSITORY), str(weights)], check=True, timeout=60)
    (manifest,) = place.glob("resources/*/manifest.json")
    result = run_program(
        "evaluate",
        *("--config", place / "results/mini/config/evaluate.json"),
        *("--weights", weights),
        *("--dataset", manifest.parent / "dataset"),
        *("--labels", manifest.parent / "labels"),
        *("--list", next(manifest.parent.glob("lists-*/val.txt"))),
        *("--manifest", manifest, "--index", manifest.parent / "labels.json"),
        *("--output", tmp_path / "metrics.json"),
    )
    assert result.returncode == 0, result.stderr
    untrained = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["miou"]
    trained = json.loads((place / "results/mini/seed0/metrics.json").read_text(encoding="utf-8"))["miou"]
    assert trained >= 3 * untrained, (trained, untrained)
