"""The workflow on a real SLURM with two nodes: the bytes of this machine, whatever happens to the jobs."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set

import pytest
from cluster import Cluster, why_not
from families import Family, wait_until
from snakemake_runs import REPOSITORY, Workflow

RECIPE = Path(__file__).with_name("queued.yaml")
#: Snakemake as a head that does not wait long between two looks at its jobs.
IMPATIENT = Path(__file__).with_name("impatient.py")
LIMIT_S = 240.0
TWO_DEVICES = "hardware={devices: 2}"
TWO_NODES = "hardware={nodes: 2}"
SWEEP = "name: study\nseeds: [0, 1]\noverrides:\n  base: {}\n  fast: {train: {base_lr: 0.02}}\n"

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(f"NO SLURM HERE: {reason}")
    started = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        yield started
    finally:
        started.end()


class Place:
    """A working directory, and the command lines of runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def command(self, *arguments: object, recipe: Optional[Path] = RECIPE) -> List[str]:
        named = ["--configfile", recipe] if recipe else []
        return Workflow(REPOSITORY, self.folder).command(*named, *arguments)

    def local(self, *arguments: object, recipe: Optional[Path] = RECIPE, limit_s: float = LIMIT_S) -> None:
        """Run on this machine, to the end."""
        command = self.command("--cores", 2, *arguments, recipe=recipe)
        done = subprocess.run(
            command, cwd=self.folder, env=_environment(), capture_output=True, text=True, timeout=limit_s, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def queued(self, cluster: Cluster, *arguments: object, recipe: Optional[Path] = RECIPE) -> Family:
        """Start a run that hands its jobs to the cluster."""
        profile = ["--profile", REPOSITORY / "profiles" / "slurm"]
        # Looked at more often than a real cluster's controller would like.
        often = ["--slurm-init-seconds-before-status-checks", 1, "--slurm-no-account"]
        python, _, _, *words = self.command(*profile, *often, *arguments, recipe=recipe)
        command = ["env", "--chdir", str(self.folder), python, str(IMPATIENT), *words]
        said = self.folder / "said"
        return Family(cluster.inside(*command), self.folder, said, _environment())

    def saved(self) -> int:
        """Iteration of the newest whole checkpoint; 0 for none."""
        manifests = self.folder.glob("runs/*/checkpoints/[0-9]*/manifest.json")
        return max((int(path.parent.name) for path in manifests), default=0)

    def said(self) -> str:
        """What the heads have said."""
        return (self.folder / "said").read_text(encoding="utf-8", errors="replace")

    def weights(self, results: str = "queued") -> str:
        model = self.folder / "results" / results / "seed0" / "model.pdparams"
        return hashlib.sha256(model.read_bytes()).hexdigest()

    def logs(self) -> str:
        """What programs and jobs have written."""
        files = [*self.folder.glob("logs/train/*.log"), *self.folder.glob(".snakemake/slurm_logs/*/*/*.log")]
        return "\n".join(f"== {file}\n{file.read_text(errors='replace')}" for file in files)


def _environment() -> Dict[str, str]:
    return {**os.environ, "STDC_PYTHON": sys.executable}


@pytest.fixture(scope="module")
def here(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same training without a cluster. (Asks for one first: without, it would be made for nothing.)"""
    place = Place(tmp_path_factory.mktemp("here"))
    place.local("--until", "train")
    return place


@pytest.fixture(scope="module")
def two_ranks(here: Place, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of two ranks on this machine."""
    place = beside(here, tmp_path_factory.mktemp("ranks"))
    place.local("--until", "train", "--config", TWO_DEVICES)
    return place.weights()


def beside(here: Place, folder: Path) -> Place:
    """A place where the data stages are done already: their outputs are there, and newer than what made them."""
    place = Place(folder)
    shutil.copytree(here.folder / "resources", folder / "resources")
    return place


def heads(family: Family) -> List[int]:
    """The Snakemake that hands over jobs, and what put it into the namespaces."""
    return [family.head.pid, *(member.pid for member in family.members() if member.parent == family.head.pid)]


def finish(family: Family, place: Place, code: int = 0, limit_s: float = LIMIT_S) -> None:
    try:
        assert family.wait(limit_s) == code, family.text()[-4000:] + place.logs()[-4000:]
    finally:
        family.end()


def test_whole_dag_gives_the_bytes_of_this_machine_though_its_training_is_cancelled(
    cluster: Cluster, here: Place, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    family = place.queued(cluster)
    try:
        wait_until(lambda: place.saved() > 0 or family.head.poll() is not None, LIMIT_S, "a checkpoint")
        job = cluster.running("train")
        assert job, family.text()[-4000:] + place.logs()
        cluster.ask("scancel", job.number)
        finish(family, place)
    finally:
        family.end()
    assert place.weights() == here.weights()
    assert (tmp_path / "results" / "queued" / "verdict.json").is_file()
    trainings = [job for job in cluster.jobs() if job.stage.startswith("rule_train")]
    assert [job.state for job in trainings] == ["CANCELLED", "COMPLETED"]
    assert "resuming: checkpoint of iteration" in place.logs()


def test_killed_head_and_killed_node_end_in_the_same_bytes_and_in_no_second_allocation(
    cluster: Cluster, here: Place, tmp_path: Path
) -> None:
    place = beside(here, tmp_path)
    first = place.queued(cluster, "--until", "train")
    second = None
    job = None
    try:
        wait_until(lambda: place.saved() > 0 or first.head.poll() is not None, LIMIT_S, "a checkpoint")
        job = cluster.running("train")
        assert job, first.text()[-4000:] + place.logs()
        for head in heads(first):
            first.kill(head)
        second = place.queued(cluster, "--until", "train")
        wait_until(lambda: "waiting for jobs" in place.said() or second.head.poll() is not None, LIMIT_S, "the wait")
        assert f"stdc: waiting for jobs of an earlier start here: {job.number} (train, seed 0: RUNNING)" in place.said()
        cluster.kill_node(job.nodes)
        wait_until(lambda: cluster.state(job.number) == "COMPLETED", LIMIT_S, "the requeued job")
        assert [other.number for other in cluster.jobs() if other.stage == job.stage][-1] == job.number
        assert cluster.where(job.number) != job.nodes
        finish(second, place)
    finally:
        for family in filter(None, (first, second)):
            family.end()
        if job:
            cluster.revive_node(job.nodes)
    assert place.weights() == here.weights()


def test_two_nodes_give_the_bytes_of_two_ranks_on_one_also_when_one_of_them_is_killed(
    cluster: Cluster, here: Place, two_ranks: str, tmp_path: Path
) -> None:
    place = beside(here, tmp_path)
    family = place.queued(cluster, "--until", "train", "--config", TWO_NODES)
    try:
        wait_until(lambda: place.saved() > 0 or family.head.poll() is not None, LIMIT_S, "a checkpoint")
        job = cluster.running("train")
        assert job and job.nodes == "n[1-2]", family.text()[-4000:] + place.logs()
        cluster.kill_node("n2")
        wait_until(lambda: not cluster.running("train"), LIMIT_S, "the job to end")
        cluster.revive_node("n2")
        finish(family, place)
    finally:
        family.end()
    assert place.weights() == two_ranks


def test_partition_that_gives_less_time_than_a_stage_asks_for_is_told_before_anything_waits(
    cluster: Cluster, here: Place, tmp_path: Path
) -> None:
    place = beside(here, tmp_path)
    before = len(cluster.jobs())
    finish(place.queued(cluster, "--until", "train", "--default-resources", "slurm_partition=short"), place, 2)
    assert "stdc: train: asks for 2880 minutes, and the partition short gives 60 at most" in place.said()
    assert len(cluster.jobs()) == before


def test_time_limit_on_the_command_line_keeps_the_device_and_wrong_input_is_tried_once(
    cluster: Cluster, here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STDC_DEVICES", "1")
    place = beside(here, tmp_path)
    device = ["--profile", REPOSITORY / "profiles" / "cuda"]
    before = len(cluster.jobs())
    finish(place.queued(cluster, *device, "--until", "train", "--set-resources", "train:runtime=90"), place, 2)
    # The scheduler has handed out a GPU that is none, which the program tells: on a CPU it would have trained.
    (job,) = cluster.jobs()[before:]
    asked = cluster.ask("scontrol", "show", "job", job.number)
    assert "gres/gpu=1" in asked or "gres:gpu:1" in asked
    assert "TimeLimit=01:30:00" in asked
    assert "stdc: train (seed 0) failed: " in place.said() and "gpu" in place.said().rpartition("failed: ")[2]


def test_experiments_and_seeds_of_a_sweep_train_side_by_side_though_a_device_profile_limits_one_machine(
    cluster: Cluster, here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STDC_DEVICES", "1")
    place = beside(here, tmp_path)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    device = ["--profile", REPOSITORY / "profiles" / "cuda"]
    no_gpu = ["--set-resources", "train:device=cpu", "train:workers=0"]
    before = len(cluster.jobs())
    family = place.queued(cluster, *device, *no_gpu, "--until", "train", "--config", "sweep=sweep.yaml")

    def running() -> Set[str]:
        return {job.stage for job in cluster.jobs()[before:] if job.state == "RUNNING"}

    try:
        wait_until(lambda: len(running()) == 4 or family.head.poll() is not None, LIMIT_S, "four trainings")
        expected = {f"rule_train_wildcards_{variant}_{seed}" for variant in ("base", "fast") for seed in (0, 1)}
        assert running() == expected, place.said() + place.logs()
        for head in heads(family)[1:]:
            # As Ctrl-C: the jobs are cancelled.
            family.kill(head, signal.SIGINT)
        wait_until(lambda: not cluster.running("train"), LIMIT_S, "the jobs to be cancelled")
    finally:
        family.end()


@pytest.mark.timeout(3600)
def test_mini_recipe_needs_no_edit_and_gives_the_bytes_of_this_machine(cluster: Cluster, tmp_path: Path) -> None:
    if os.environ.get("STDC_SLURM_MINI") != "1":
        pytest.skip("the mini recipe is not run through SLURM: STDC_SLURM_MINI is not 1 (make slurm-test)")
    here, place = Place(tmp_path / "here"), Place(tmp_path / "cluster")
    here.local("--until", "evaluate", recipe=None, limit_s=1500)
    finish(place.queued(cluster, recipe=None), place, limit_s=1500)
    print(f"\nthe mini recipe on SLURM, and here: {place.weights('mini')} {here.weights('mini')}")
    assert place.weights("mini") == here.weights("mini")
    results = [folder.folder / "results" / "mini" for folder in (here, place)]
    for name in ("best.pdparams", "metrics.json", "metrics_best.json"):
        ours, queued = ((folder / "seed0" / name).read_bytes() for folder in results)
        assert ours == queued, name
    assert (results[1] / "seed0" / "speed.json").is_file() and (results[1] / "report.html").is_file()
