"""The table of `make parity`: a row that does not hold cannot pass for one that does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "parity" / "run_parity.py"


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_parity", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(what: str, measured: float, tolerance: float = 1e-5) -> Dict[str, Any]:
    return {"what": what, "peer": "other", "tolerance": tolerance, "measured": measured}


@pytest.mark.parametrize(
    ("measured", "tolerance", "holds"),
    [(0.0, 0.0, True), (1e-5, 1e-5, True), (2e-5, 1e-5, False), (1e-30, 0.0, False), (float("nan"), 1.0, False)],
)
def test_a_row_holds_when_its_difference_is_a_number_within_the_tolerance(
    parity: ModuleType, measured: float, tolerance: float, holds: bool
) -> None:
    assert parity.holds(row("x", measured, tolerance)) is holds


def test_a_row_that_fails_on_one_backend_is_marked(parity: ModuleType) -> None:
    text = parity.table({"paddle 3": [row("a", 0.0), row("b", 0.0)], "paddle 2": [row("a", 1.0)]})
    lines = text.splitlines()
    assert lines[0] == "| what | peer | tolerance | paddle 3 | paddle 2 | holds |"
    assert lines[2] == "| a | other | 1e-05 | 0 | 1 | **NO** |"
    assert lines[3] == "| b | other | 1e-05 | 0 | - | yes |"


def test_the_table_goes_between_the_marks_of_the_page(parity: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{parity.BEGIN}\nold\n{parity.END}\nafter\n", encoding="utf-8")
    parity.write_docs(page, "new")
    assert page.read_text(encoding="utf-8") == f"before\n{parity.BEGIN}\n\nnew\n\n{parity.END}\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="no line"):
        parity.write_docs(page, "new")


def test_a_missing_environment_names_the_script_that_makes_it(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--torch", str(tmp_path / "python"), "--paddle", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "run tests/parity/setup.sh" in done.stderr
