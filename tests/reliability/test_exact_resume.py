"""Killed at any moment and started again, a training ends in the same bytes as one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from families import Family, shared_memory, wait_until
from trials import TrainingTrial

SEED = int(os.environ.get("STDC_KILL_SEED", "20260901"))
LIMIT_S = 90.0


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TrainingTrial:
    return TrainingTrial(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def undisturbed(trial: TrainingTrial) -> Dict[str, Any]:
    return trial.finish("undisturbed")


def at_a_random_moment(trial: TrainingTrial, name: str, family: Family, beyond: int, chance: random.Random) -> None:
    """Wait until a checkpoint beyond iteration `beyond` is there, and up to a few steps more."""

    def reached() -> bool:
        assert family.head.poll() is None, family.text()[-3000:]
        return trial.saved(name) > beyond

    wait_until(reached, LIMIT_S, f"a checkpoint beyond {beyond}")
    time.sleep(chance.uniform(0.0, 0.25))


def test_one_process_killed_in_three_ways_ends_in_the_same_bytes(
    trial: TrainingTrial, undisturbed: Dict[str, Any]
) -> None:
    chance = random.Random(SEED)
    name = "one"
    # Before the first checkpoint: nothing to resume from.
    family = trial.start(name, workers=2)
    try:
        wait_until(lambda: trial.run_folder(name), LIMIT_S)
        time.sleep(chance.uniform(0.0, 1.0))
        family.kill(family.head.pid)
        assert family.wait(LIMIT_S) == -signal.SIGKILL
        assert family.survivors() == []
    finally:
        family.end()
    # The trainer, with data workers that must die too.
    family = trial.start(name, workers=2)
    try:
        at_a_random_moment(trial, name, family, 0, chance)
        family.kill(family.head.pid)
        assert family.wait(LIMIT_S) == -signal.SIGKILL
        assert family.survivors() == []
    finally:
        family.end()
    # A data worker: the trainer says so, without a traceback.
    family = trial.start(name, workers=2)
    before = trial.saved(name)
    try:
        wait_until(lambda: len(family.of_role("data worker")) == 2, LIMIT_S, "two data workers")
        wait_until(lambda: trial.saved(name) > before, LIMIT_S)
        workers = family.of_role("data worker")
        if workers:
            family.kill(chance.choice(workers).pid)
        code = family.wait(LIMIT_S)
        # The last batches may have been read already.
        assert code in (0, 1)
        if code == 1:
            assert "a data worker died" in family.text() and "Traceback" not in family.text()
        assert family.survivors() == []
    finally:
        family.end()
    assert trial.finish(name) == undisturbed


def test_signals_save_the_state_and_end_with_75(trial: TrainingTrial, undisturbed: Dict[str, Any]) -> None:
    chance = random.Random(SEED + 1)
    name = "signalled"
    for number, everyone in ((signal.SIGTERM, False), (signal.SIGUSR1, True), (signal.SIGTERM, True)):
        family = trial.start(name, workers=1)
        before = trial.saved(name)
        said_before = len(family.text())
        try:
            at_a_random_moment(trial, name, family, before, chance)
            for pid in [member.pid for member in family.members()] if everyone else [family.head.pid]:
                family.kill(pid, number)
            code = family.wait(LIMIT_S)
            said = family.text()[said_before:]
            assert code == 75, f"{number.name}: {said[-3000:]}"
            assert "stopped on request at iteration" in said and "Traceback" not in said
            # Saved where it stopped, not where the interval was.
            assert trial.saved(name) == int(said.rpartition("stopped on request at iteration ")[2].split()[0])
            assert family.survivors() == []
        finally:
            family.end()
    assert trial.finish(name) == undisturbed


def test_two_ranks_killed_in_three_ways_end_in_the_same_bytes(trial: TrainingTrial) -> None:
    chance = random.Random(SEED + 2)
    expected = trial.finish("ranks-undisturbed", devices=2)
    name = "ranks"
    victims = ["rank", "launcher", "watcher"] + (["everyone"] if os.environ.get("STDC_LONG_TESTS") else [])
    for victim in victims:
        family = trial.start(name, devices=2, workers=1)
        before = trial.saved(name)
        try:
            at_a_random_moment(trial, name, family, before, chance)
            members = family.members()
            if victim == "everyone":
                # A time limit: the scheduler's signal reaches all, the ranks save at the same step.
                for member in members:
                    family.kill(member.pid, signal.SIGTERM)
                assert family.wait(LIMIT_S) == 75, family.text()[-3000:]
            else:
                pids = {
                    "rank": [one.pid for one in members if one.role == "train" and one.pid != family.head.pid],
                    "launcher": [one.pid for one in members if one.role == "launcher"],
                    "watcher": [family.head.pid],
                }[victim]
                family.kill(chance.choice(pids))
                assert family.wait(LIMIT_S) in (1, -signal.SIGKILL)
            assert family.survivors() == [], f"after the {victim} was killed"
        finally:
            family.end()
    assert trial.finish(name, devices=2) == expected
    folder = trial.run_folder(name)
    assert folder is not None and not [left for left in shared_memory() if folder.name in left]


def test_changed_learning_rate_never_resumes_and_an_unrelated_change_does(
    trial: TrainingTrial, undisturbed: Dict[str, Any]
) -> None:
    name = "undisturbed"
    runs = trial.folder / name / "runs"
    (first,) = runs.iterdir()
    try:
        trial.configure({"base_lr": 0.02})
        family = trial.start(name)
        try:
            wait_until(lambda: len(list(runs.glob("*/history.jsonl"))) == 2, LIMIT_S, "a run folder of its own")
            family.kill_group()
            family.wait(LIMIT_S)
        finally:
            family.end()
        assert "finished already" not in family.text() and "resuming" not in family.text()
        trial.configure({"log_interval": 7, "keep_checkpoint_max": 5, "save_interval": 1, "visualdl": True})
        assert trial.finish(name, workers=1)["model"] == undisturbed["model"]
    finally:
        trial.configure({})
    said = (trial.folder / name / "said").read_text()
    assert f"finished already: checkpoint of iteration 24 in {first}" in said


def test_finished_training_is_not_repeated(trial: TrainingTrial, undisturbed: Dict[str, Any]) -> None:
    place: Path = trial.folder / "undisturbed"
    for name in ("model.pdparams", "best.pdparams", "history.jsonl"):
        (place / name).unlink()
    assert trial.finish("undisturbed") == undisturbed
    assert (place / "said").read_text().rstrip().splitlines()[-2].startswith("train: finished already")
