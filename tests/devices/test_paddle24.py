"""The programs on Paddle 2.4.2 and Python 3.8, as near as can be had to what the CoreX SDK 3.1.0 carries (2.4.1).

The environment is `.venv/floor-paddle24` (`make floor` makes it), or one named by STDC_FLOOR_PADDLE24, or one that is
made here, once, where there is a Python 3.8: a minute, a download of 0.8 GB, 2.8 GB in the user's cache folder. Its
Paddle is built for CUDA and computes on the CPU, with a stand-in for libcudart. The vendor's own build has not been
tried.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, NoReturn

import pytest
from build import build_cudart, missing_compiler
from trial import REPOSITORY, Trial, read, sha256, succeeded

from stdc.units import bytes_text

sys.path[:0] = [str(REPOSITORY / "tests" / "floor"), str(REPOSITORY / "tests" / "devices" / "kernels")]

import kernels  # noqa: E402
from old_pythons import find_old_python  # noqa: E402

#: What has to do with Paddle's version, and is quick. `make floor` runs all unit tests.
UNIT_TESTS = ("nn_losses", "nn_segmentor", "nn_state", "nn_sync_batch_norm", "optimizer", "schedule", "step")


LOCKS = ("paddle-corex.lock", "floor-paddle24.lock")
_DISK_BYTES = 4 * 10**9
#: Of a set-up; a minute with a good connection.
_SET_UP_LIMIT_S = 900

pytestmark = pytest.mark.timeout(_SET_UP_LIMIT_S + 300)


def not_tested(reason: str) -> NoReturn:
    pytest.skip(f"PADDLE 2.4 NOT TESTED: {reason}")


@pytest.fixture(scope="module")
def python() -> str:
    if missing_compiler():
        not_tested(f"no {missing_compiler()} to build the stand-in for libcudart")
    named = os.environ.get("STDC_FLOOR_PADDLE24")
    folder = Path(named) if named else REPOSITORY / ".venv" / "floor-paddle24"
    if not (folder / "bin" / "python").exists():
        if named:
            not_tested(f"no bin/python in {folder} (STDC_FLOOR_PADDLE24)")
        folder = _made_environment()
    return str(folder / "bin" / "python")


def _made_environment() -> Path:
    """An environment in the cache, made now where it is not there yet."""
    interpreter = find_old_python(8)
    if interpreter is None:
        not_tested("no Python 3.8 on this machine (FLOOR_PYTHON names one)")
    digest = hashlib.sha256(b"".join((REPOSITORY / "requirements" / lock).read_bytes() for lock in LOCKS))
    cache = _cache_folder()
    folder = cache / f"floor-paddle24-{digest.hexdigest()[:12]}"
    if not (folder / ".installed").exists() and shutil.disk_usage(cache).free < _DISK_BYTES:
        not_tested(f"less than {bytes_text(_DISK_BYTES)} free in {cache} (XDG_CACHE_HOME names another place)")
    command = [str(REPOSITORY / "tests" / "floor" / "environment.sh"), str(folder), interpreter, *LOCKS]
    made = subprocess.run(command, capture_output=True, text=True, timeout=_SET_UP_LIMIT_S, check=False)
    if made.returncode != 0:
        last = (made.stderr.strip().splitlines() or ["without a word"])[-1]
        not_tested(f"its environment cannot be made: {last}")
    return folder


def _cache_folder() -> Path:
    """The user's cache, or the repository's environments where that cannot be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stdc"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = REPOSITORY / ".venv"
        cache.mkdir(exist_ok=True)
    return cache if os.access(cache, os.W_OK) else REPOSITORY / ".venv"


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


def test_every_kernel_in_use_is_registered_for_gpus(python: str, environment: Dict[str, str]) -> None:
    table = kernels.ask(python, environment)
    assert table["version"] == "2.4.2" and sum(map(len, table["used"].values())) > 50
    assert table["missing"] == []


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
