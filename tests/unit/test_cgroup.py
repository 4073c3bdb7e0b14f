"""CPUs and memory that control groups allot, from folders laid out as the kernel lays them out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Tuple

import pytest

from stdc.machine import cgroup


def laid_out(tmp_path: Path, membership: str, values: Dict[str, str]) -> Tuple[Path, Path]:
    root, own = tmp_path / "cgroup", tmp_path / "self"
    for name, text in values.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    own.write_text(membership + "\n")
    return root, own


@pytest.mark.parametrize(
    ("membership", "values", "quota"),
    [
        ("0::/", {"cpu.max": "400000 100000"}, 4.0),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        # A pod of 8 CPUs whose container has 2: the tightest counts.
        ("0::/pod/c", {"pod/cpu.max": "800000 100000", "pod/c/cpu.max": "200000 100000"}, 2.0),
        ("0::/pod/c", {"pod/cpu.max": "100000 100000", "pod/c/cpu.max": "max 100000"}, 1.0),
        # A container without a namespace of its own: the host's path is not there, its group is the root.
        ("0::/kubepods/burstable/x", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../../x", {"cpu.max": "50000 100000"}, 0.5),
        ("3:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, 3.0),
        ("3:cpu:/docker/x", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_quota_of_both_versions(tmp_path: Path, membership: str, values: Dict[str, str], quota: float) -> None:
    assert cgroup.cpu_quota(*laid_out(tmp_path, membership, values)) == quota


@pytest.mark.parametrize(("quota", "affinity", "usable"), [(4, 64, 4), (1.5, 64, 2), (0.5, 64, 1), (8, 2, 2)])
def test_usable_cpus_are_the_affinity_mask_or_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: float, affinity: int, usable: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    assert cgroup.usable_cpus(*laid_out(tmp_path, "0::/", {"cpu.max": f"{int(quota * 100000)} 100000"})) == usable


def test_memory_limit_and_kills_of_both_versions(tmp_path: Path) -> None:
    events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0"
    two = laid_out(tmp_path / "2", "0::/", {"memory.events": events, "memory.max": "419430400"})
    assert (cgroup.memory_kills(*two), cgroup.memory_limit(*two)) == (2, 419430400)
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill 1"
    one = {"memory/memory.oom_control": control, "memory/memory.limit_in_bytes": "9223372036854771712"}
    files = laid_out(tmp_path / "1", "5:memory:/", one)
    assert (cgroup.memory_kills(*files), cgroup.memory_limit(*files)) == (1, None)


def test_on_this_machine_the_count_is_possible() -> None:
    assert 1 <= cgroup.usable_cpus() <= (os.cpu_count() or 1)
