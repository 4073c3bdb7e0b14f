"""The script for the first minutes on a device, in its short form on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import acceptance
import measure


def test_short_form_ends_in_json_with_figures_and_bounds(tmp_path: Path) -> None:
    output = tmp_path / "acceptance.json"
    program = Path(__file__).with_name("acceptance.py")
    command = [sys.executable, str(program), "--device", "cpu", "--steps", "topk", "ranks", "--output", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    steps = {step["step"]: step for step in json.loads(output.read_text())["steps"]}
    assert steps["topk"]["outcome"] == "passed" and steps["topk"]["figures"]
    # One device: what needs two says so.
    assert steps["ranks"]["outcome"] == "left out" and steps["ranks"]["reason"]


class Steps:
    """Three steps: one that passes, one that misses its bound, one after it."""

    def first(self) -> List[Any]:
        return [acceptance.at_most("error", 0.5, 1.0)]

    def second(self) -> List[Any]:
        return [acceptance.at_most("error", 2.0, 1.0)]

    def third(self) -> List[Any]:
        return [acceptance.equal("bytes", "a", "a")]


@pytest.mark.parametrize(("to_the_end", "made"), [(False, 2), (True, 3)])
def test_missed_bound_fails_its_step_and_ends_the_trial_unless_all_are_wanted(to_the_end: bool, made: int) -> None:
    found = acceptance.run(Steps(), ("first", "second", "third"), to_the_end, lambda _: None)
    assert [step["outcome"] for step in found] == ["passed", "failed", "passed"][:made]
    assert found[1]["reason"] == "error: 2.0, not at most 1"


def test_trace_of_a_device_is_counted_per_step_and_its_gaps_are_idle() -> None:
    """Two steps on a device that works from 0 to 10, twice at a time from 4 to 6, and from 15 to 20."""
    trace = [
        {"cat": "Operator", "name": "conv2d dygraph", "ts": 0, "dur": 1},
        {"cat": "Kernel", "name": "implicit_gemm", "ts": 0, "dur": 6},
        {"cat": "Kernel", "name": "relu", "ts": 4, "dur": 6},
        {"cat": "Memcpy", "name": "MEMCPY_DtoH", "ts": 15, "dur": 5},
        {"cat": None, "name": "process_name"},
    ]
    assert measure.summary(trace, 2) == {
        "operators_per_step": 0.5,
        "launches_per_step": 1.0,
        "copies_back_per_step": 0.5,
        "idle_share": 0.25,
    }
    assert measure.summary(trace[:1], 2) == {"operators_per_step": 0.5}
