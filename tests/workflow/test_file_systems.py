"""Data stages and training on file systems and in homes that refuse what others allow."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict

import pytest
from snakemake_runs import REPOSITORY, TINY, Outcome, Workflow

SHARE = Path(__file__).with_name("network_share.c")


class Elsewhere(Workflow):
    """A workflow with variables of its own, some of which Snakemake itself must have been started with."""

    def __init__(self, place: Path, **variables: str) -> None:
        super().__init__(REPOSITORY, place)
        self.variables = variables
        place.mkdir(exist_ok=True)

    def environment(self) -> Dict[str, str]:
        kept = {name: value for name, value in super().environment().items() if name != "XDG_CACHE_HOME"}
        return {**kept, **self.variables}

    def __call__(self, *arguments: object, timeout_s: float = 240) -> Outcome:
        return self.typed(*arguments, timeout_s=timeout_s)


def weights(place: Path) -> Dict[str, str]:
    paths = place.glob("results/tiny/seed0/*.pdparams")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_share_without_locks_and_a_home_without_room_end_in_the_same_weights(tmp_path: Path) -> None:
    """flock refused, fsync of folders refused, HOME not writable, all at once: told, and the run goes on to its end."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine to build what stands in for a network file system")
    library = tmp_path / "share.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(SHARE), "-ldl"], check=True)
    share = Elsewhere(tmp_path / "share", LD_PRELOAD=str(library), HOME="/proc", TMPDIR=str(tmp_path))
    outcome = share("--cores", 2, "--configfile", TINY, "--until", "train", timeout_s=280)
    assert outcome.returncode == 0, outcome.text
    assert "Traceback" not in outcome.text
    assert "this file system has no locks; do not start a second run here" in outcome.text
    assert f"stdc: /proc: No such file or directory; {tmp_path}/stdc-home-" in outcome.text
    usual = Elsewhere(tmp_path / "usual")
    assert usual("--cores", 2, "--configfile", TINY, "--until", "train").returncode == 0
    assert weights(share.place) == weights(usual.place) != {}


def test_all_cores_of_a_container_with_a_cpu_quota_are_its_quota(tmp_path: Path) -> None:
    """A real control group that leaves one CPU of those that the machine has."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("no quota can be seen: this machine has one CPU")
    group = (
        Path("/sys/fs/cgroup/cpu" if Path("/sys/fs/cgroup/cpu").is_dir() else "/sys/fs/cgroup") / f"stdc-{os.getpid()}"
    )
    name, value = ("cpu.cfs_quota_us", "100000") if group.parent.name == "cpu" else ("cpu.max", "100000 100000")
    try:
        group.mkdir()
        (group / name).write_text(value)
    except OSError as error:
        shutil.rmtree(group, ignore_errors=True)
        pytest.skip(f"no control group can be made here: {error}")
    try:
        workflow = Elsewhere(tmp_path / "place")
        words = workflow.command("--cores", "all", "-n", "--configfile", TINY)
        command = ["bash", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "in-group", *words]
        completed = subprocess.run(
            command, cwd=workflow.place, env=workflow.environment(), capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stderr
        cores = len(os.sched_getaffinity(0))
        assert f"stdc: 1 of {cores} cores are used: this container has a CPU quota" in completed.stderr
        # A number that somebody chose is taken.
        assert "cores are used" not in workflow("--cores", "1", "-n", "--configfile", TINY).text
    finally:
        group.rmdir()
