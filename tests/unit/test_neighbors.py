"""Whether others computed while a speed was measured."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from stdc.machine import leases, neighbors


def test_busy_time_is_the_kernels_without_idling_and_waiting(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 4000 500 6 7 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n")
    assert neighbors.busy_seconds(stat) == (100 + 20 + 30 + 6 + 7) / os.sysconf("SC_CLK_TCK")
    stat.write_text("nonsense\n")
    assert neighbors.busy_seconds(stat) is None


def _compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_process_that_computes_beside_is_seen() -> None:
    if neighbors.busy_seconds(Path("/proc/stat")) is None:
        pytest.skip("NO BUSY TIME: this kernel does not tell it")
    other = multiprocessing.get_context("spawn").Process(target=_compute, args=(30,))
    other.start()
    try:
        time.sleep(1)
        watch = neighbors.Neighbors("cpu")
        time.sleep(0.5)
        # Other work on the machine can only add to it.
        assert (watch.beside()["cpu_cores"] or 0) > 0.1
    finally:
        other.kill()
        other.join()


def test_leases_of_others_are_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "leases")
    monkeypatch.setenv("STDC_LEASES", folder)
    other = {"STDC_LEASES": folder, "CUDA_VISIBLE_DEVICES": "0,1"}
    with leases.leased("gpu", 1, lambda line: None, environment=other):
        found = neighbors.Neighbors("gpu").beside()
    assert (found["others"], found["devices"]) == (True, 1)
    assert (
        neighbors.words({**found, "cpu_cores": 1.5})
        == ", beside others (devices of others: 1, 1.5 CPU cores kept busy)"
    )
    assert neighbors.words({"others": False, "devices": 0, "cpu_cores": 0.2}) == ""
