"""The programs on Paddle 2.4.2 and Python 3.8, as near as can be had to what the CoreX SDK 3.1.0 carries (2.4.1).

The environment is made by `make floor`, because it takes a download of 0.6 GB: `.venv/floor-paddle24`, or another one
named by STDC_FLOOR_PADDLE24. Its Paddle is built for CUDA and computes on the CPU here, with a stand-in for libcudart.
The vendor's own build has not been tried.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Dict

import pytest
from build import build_cudart, missing_compiler
from trial import REPOSITORY, Trial, read, sha256, succeeded

#: What has to do with Paddle's version, and is quick. `make floor` runs all unit tests.
UNIT_TESTS = ("nn_losses", "nn_segmentor", "nn_state", "nn_sync_batch_norm", "optimizer", "schedule", "step")


@pytest.fixture(scope="module")
def python() -> str:
    folder = Path(os.environ.get("STDC_FLOOR_PADDLE24") or REPOSITORY / ".venv" / "floor-paddle24")
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        pytest.skip(f"PADDLE 2.4 NOT TESTED: no {interpreter}; `make floor` makes it where there is a Python 3.8")
    if missing_compiler():
        pytest.skip(f"PADDLE 2.4 NOT TESTED: no {missing_compiler()} to build the stand-in for libcudart")
    return str(interpreter)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    library = build_cudart(tmp_path_factory.mktemp("cudart"))
    # The vendor's examples run with the protobuf that is written in Python.
    return {"LD_LIBRARY_PATH": str(library.parent), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}


@pytest.fixture(scope="module")
def trial(python: str, environment: Dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("data"), python=python, environment=environment)


@pytest.fixture(scope="module")
def trained(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    succeeded(trial.train(out, "cpu", 1))
    return out


def test_the_environment_is_what_it_says(python: str, environment: Dict[str, str]) -> None:
    ask = "import paddle, sys; print(paddle.__version__, sys.version_info[1], paddle.is_compiled_with_cuda())"
    answer = subprocess.run(
        [python, "-c", ask], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["2.4.2", "8", "True"]


def test_training_and_its_history_are_those_of_the_contract(trained: Path) -> None:
    assert read(trained / "provenance.json")["device"]["paddle"] == "2.4.2"
    assert (trained / "model.pdparams").stat().st_size > 10_000_000
    assert len((trained / "history.jsonl").read_text().splitlines()) == 4


def test_training_again_has_the_same_bytes(trial: Trial, trained: Path, tmp_path: Path) -> None:
    succeeded(trial.train(tmp_path, "cpu", 1))
    assert sha256(tmp_path / "model.pdparams") == sha256(trained / "model.pdparams")


def test_two_ranks_train(trial: Trial, tmp_path: Path) -> None:
    succeeded(trial.train(tmp_path, "cpu", 2))
    assert read(tmp_path / "provenance.json")["device"]["kind"] == "cpu"


def test_preset_of_the_authors_trains(trial: Trial, tmp_path: Path) -> None:
    succeeded(trial.train(tmp_path, "cpu", 1, preset="authors", warmup_iterations=1))


def test_two_ranks_evaluate_like_one(trial: Trial, trained: Path, tmp_path: Path) -> None:
    for ranks in (1, 2):
        succeeded(trial.evaluate(trained, tmp_path / f"{ranks}.json", "cpu", ranks))
    one, two = (read(tmp_path / f"{ranks}.json") for ranks in (1, 2))
    assert one["confusion"] == two["confusion"]
    assert one["protocol"]["backend"] == "paddle 2.4.2 cpu"


def test_speed_is_measured(trial: Trial, trained: Path, tmp_path: Path) -> None:
    succeeded(trial.measure_speed(trained, tmp_path / "speed.json", "cpu"))
    assert read(tmp_path / "speed.json")["inference"]["fps"] > 0


def test_device_gpu_is_refused_in_words(trial: Trial, tmp_path: Path) -> None:
    """The stand-in says what the real library says where there is no driver."""
    result = trial.train(tmp_path, "gpu", 1)
    assert result.returncode == 2, result.stderr
    assert "device: 'gpu' asked for, but paddle 2.4.2 sees none" in result.stderr


def test_unit_tests_that_depend_on_paddle_pass(python: str, environment: Dict[str, str], tmp_path: Path) -> None:
    tests = [str(REPOSITORY / "tests" / "unit" / f"test_{name}.py") for name in UNIT_TESTS]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert result.returncode == 0, result.stdout[-3000:]
