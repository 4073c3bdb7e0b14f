"""The sources on an interpreter as old as that of the CoreX SDK, where this machine has one.

Quick and without packages; `make floor` runs the unit tests there.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from old_pythons import find_old_python

REPOSITORY = Path(__file__).resolve().parents[2]

_COMPILE = """
import sys
for path in sys.argv[1:]:
    with open(path, "rb") as handle:
        compile(handle.read(), path, "exec")
print(len(sys.argv) - 1)
"""


@pytest.fixture(scope="module")
def old_python() -> str:
    python = find_old_python(8, 9)
    if python is None:
        pytest.skip("no Python 3.8 or 3.9 on this machine (FLOOR_PYTHON names one): the floor is not tested")
    return python


def test_all_sources_compile_on_the_old_interpreter(old_python: str) -> None:
    folders = (REPOSITORY / "stdc", REPOSITORY / "workflow" / "scripts", REPOSITORY / "tools")
    sources = sorted(str(path) for folder in folders for path in folder.rglob("*.py"))
    assert len(sources) > 50
    command = [old_python, "-c", _COMPILE, *sources]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == len(sources)


@pytest.mark.parametrize("name", ["train", "evaluate", "fetch_weights", "doctor"])
def test_programs_start_on_the_old_interpreter_before_any_package_is_there(old_python: str, name: str) -> None:
    command = [old_python, "-s", str(REPOSITORY / "workflow" / "scripts" / f"{name}.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert f"usage: {name}" in result.stdout


def test_doctor_on_an_interpreter_without_packages_tells_what_is_missing(old_python: str, tmp_path: Path) -> None:
    """The first thing a person runs in an image that was put together by hand."""
    config = tmp_path / "doctor.json"
    config.write_text(
        '{"model": {"backbone": "stdc1"}, "evaluate": {"protocols": []}, "train": {"preset": "paddleseg", '
        '"iterations": 1, "global_batch": 2, "crop_height": 64, "crop_width": 128}}'
    )
    command = [old_python, "-s", str(REPOSITORY / "workflow" / "scripts" / "doctor.py")]
    command += ["--config", str(config), "--device", "cpu", "--directory", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "packages" in result.stderr and "No module named" in result.stderr
    assert "make setup" in result.stderr
