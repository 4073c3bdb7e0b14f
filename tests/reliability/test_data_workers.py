"""A data worker that dies or stands still ends its training in words; the next start ends in undisturbed bytes."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path
from typing import Iterator

import pytest
from families import Family, wait_until
from trials import TrainingTrial
from worker_kills import kill_in_loader, kill_in_training


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TrainingTrial:
    # Long enough to be disturbed, without evaluations, which need no data worker, and with few checkpoints to write.
    return TrainingTrial(
        tmp_path_factory.mktemp("workers"), {"iterations": 60, "eval_interval": 60, "save_interval": 10}
    )


@pytest.fixture
def stopped(trial: TrainingTrial, request: pytest.FixtureRequest) -> Iterator[Family]:
    """A training whose one data worker was stopped after the first checkpoint."""
    name, limits = request.param
    (trial.folder / name).mkdir()
    family = Family([*trial.command(name, workers=1), *limits], trial.folder, trial.folder / name / "said")
    try:
        wait_until(lambda: trial.saved(name) > 0 or family.head.poll() is not None, 120, "checkpoint")
        (worker,) = family.of_role("data worker")
        family.kill(worker.pid, signal.SIGSTOP)
        yield family
    finally:
        family.end()


@pytest.mark.parametrize("stopped", [("asked", [])], indirect=True)
def test_request_to_stop_is_obeyed_while_a_data_worker_stands_still(stopped: Family) -> None:
    time.sleep(1.0)
    stopped.kill(stopped.head.pid, signal.SIGTERM)
    assert stopped.wait(60) == 75, stopped.text()[-2000:]
    assert "stopped on request" in stopped.text() and stopped.survivors() == []


@pytest.mark.parametrize("stopped", [("limited", ["--step-limit", "15"])], indirect=True)
def test_data_worker_that_stands_still_is_named_with_its_frame(stopped: Family) -> None:
    assert stopped.wait(90) == 1, stopped.text()[-2000:]
    words = r"no sample for \d+ s: data worker \d+ \(stopped\) owes that of \w+_\d{6}_\d{6}\."
    assert re.search(words, stopped.text()), stopped.text()[-2000:]
    assert stopped.survivors() == []


@pytest.mark.campaign
@pytest.mark.parametrize("devices", [1, 2])
def test_training_whose_data_worker_was_killed_ends_in_words_and_goes_on(trial: TrainingTrial, devices: int) -> None:
    name = f"killed{devices}"
    assert kill_in_training(trial, name, devices, random.Random(devices)) == []
    assert trial.finish(name, workers=2, devices=devices, limit_s=240) == trial.finish(
        f"calm{devices}", workers=0, devices=devices, limit_s=240
    )


@pytest.mark.campaign
def test_loader_whose_worker_was_killed_at_random_ends_in_words(tmp_path: Path) -> None:
    draw = random.Random(3)
    assert [kill_in_loader(tmp_path, draw) for _ in range(6)] == [[]] * 6
