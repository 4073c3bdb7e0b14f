"""Ranks that wait, hang, or see other files than their neighbors; a device that is too small; rasters drawn anew."""

from __future__ import annotations

import json
import shutil
import signal
import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, List

import cv2
import numpy as np
import pytest
from families import Family, wait_until
from programs import SCRIPTS
from trials import TrainingTrial

from stdc.files import sha256_file

LIMIT_S = 150.0

#: What the faulty trainer begins with: a way to be rank 1 only, and the modules that faults are put into.
_PREAMBLE = """
import errno, os, sys, time
sys.path[:0] = [{root!r}, {scripts!r}]
RANK = int(os.environ.get("PADDLE_TRAINER_ID", "-1"))
from pathlib import Path
"""

#: And how it ends: as the program `train` does.
_TRAIN = """
import program, train
from stdc.machine import ranks
if __name__ == "__main__":
    if ranks.in_rank():
        ranks.enter_rank()
    sys.exit(program.run(train.arguments(), train.main))
"""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TrainingTrial:
    return TrainingTrial(tmp_path_factory.mktemp("trial"), {"iterations": 6, "eval_interval": 6, "save_interval": 2})


@pytest.fixture(scope="module")
def two_ranks(trial: TrainingTrial) -> Dict[str, Any]:
    return trial.finish("two-ranks", devices=2)


@pytest.fixture(scope="module", autouse=True)
def slow(trial: TrainingTrial) -> Iterator[Family]:
    """Two ranks that take 33 s for a checkpoint; started first, since they sleep while other things are tried."""
    family = start(trial, "slow", faulty_save(trial, "slow", 2, "time.sleep(33)"))
    try:
        yield family
    finally:
        family.end()


@pytest.fixture(scope="module")
def interruption(trial: TrainingTrial) -> Path:
    """What a run of two ranks left that ended after its checkpoints of iterations 2 and 4."""
    program = faulty_save(trial, "interrupted", 6, "os._exit(1)")
    assert end(start(trial, "interrupted", program)) == 1
    assert saved(trial, "interrupted") == ["00000002", "00000004"]
    return trial.folder / "interrupted"


@pytest.fixture
def interrupted(trial: TrainingTrial, interruption: Path, request: pytest.FixtureRequest) -> str:
    """The name of a run that is a copy of the interrupted one, for a test to go on with."""
    name = f"again-{request.function.__name__}"
    shutil.copytree(interruption / "runs", trial.folder / name / "runs")
    return name


def faulty(trial: TrainingTrial, name: str, fault: str) -> Path:
    """A trainer with a fault in it: a program that the ranks run too."""
    path = trial.folder / f"{name}.py"
    preamble = _PREAMBLE.format(root=str(SCRIPTS.parents[1]), scripts=str(SCRIPTS))
    path.write_text(preamble + textwrap.dedent(fault) + _TRAIN, encoding="utf-8")
    return path


def faulty_save(trial: TrainingTrial, name: str, iteration: int, statement: str) -> Path:
    """A trainer in which something happens before the checkpoint of one iteration is saved."""
    fault = f"""
        from stdc.training import checkpoints
        save = checkpoints.save
        def saving(folder, checkpoint, *rest):
            if checkpoint.iteration == {iteration}:
                {statement}
            return save(folder, checkpoint, *rest)
        checkpoints.save = saving
        """
    return faulty(trial, name, fault)


def start(trial: TrainingTrial, name: str, program: Path, *options: object, devices: int = 2) -> Family:
    (trial.folder / name).mkdir(exist_ok=True)
    command = trial.command(name, 0, devices)
    command[1] = str(program)
    return Family([*command, *map(str, options)], trial.folder, trial.folder / name / "said")


def end(family: Family) -> int:
    try:
        return family.wait(LIMIT_S)
    finally:
        family.end()


def saved(trial: TrainingTrial, name: str) -> List[str]:
    folder = trial.run_folder(name)
    assert folder is not None
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_rank_that_cannot_read_a_checkpoint_now_ends_the_run_and_nothing_is_lost(
    trial: TrainingTrial, two_ranks: Dict[str, Any], interrupted: str
) -> None:
    before = saved(trial, interrupted)
    program = faulty(
        trial,
        "unreadable",
        """
        opening = os.open
        def failing(path, *rest, **named):
            if RANK == 1 and str(path).endswith("00000004/manifest.json"):
                raise OSError(errno.EIO, "Input/output error", str(path))
            return opening(path, *rest, **named)
        os.open = failing
        """,
    )
    family = start(trial, interrupted, program)
    assert end(family) == 1
    assert "rank 1 failed" in family.text() and "Input/output error" in family.text()
    assert saved(trial, interrupted) == before
    assert trial.finish(interrupted, devices=2) == two_ranks


def test_ranks_resume_from_the_newest_checkpoint_that_all_of_them_find_whole(
    trial: TrainingTrial, two_ranks: Dict[str, Any], interrupted: str
) -> None:
    program = faulty(
        trial,
        "apart",
        """
        from stdc.training import checkpoints
        load = checkpoints._load
        def damaged(path, *rest):
            if RANK == 1 and path.name == "00000004":
                raise checkpoints.DamagedError(f"{path}: damaged for this rank")
            return load(path, *rest)
        checkpoints._load = damaged
        """,
    )
    family = start(trial, interrupted, program)
    assert end(family) == 0, family.text()[-3000:]
    assert "resuming: checkpoint of iteration 2" in family.text()
    assert trial.results(interrupted) == two_ranks


def test_rank_that_finds_no_checkpoint_while_another_does_starts_nothing_over(
    trial: TrainingTrial, interrupted: str
) -> None:
    before = saved(trial, interrupted)
    program = faulty(
        trial,
        "blind",
        """
        from stdc.training import checkpoints
        newest = checkpoints.load_newest
        checkpoints.load_newest = lambda *rest, **more: None if RANK == 1 else newest(*rest, **more)
        """,
    )
    family = start(trial, interrupted, program)
    assert end(family) == 1
    assert "rank 1 finds no checkpoint" in family.text() and "do all ranks see the same folder?" in family.text()
    assert saved(trial, interrupted) == before


def test_stopped_rank_ends_the_run_in_words_within_its_limit(trial: TrainingTrial) -> None:
    trial.configure({"iterations": 2000, "save_interval": 2, "evaluate": False, "log_interval": 2})
    family = start(trial, "stopped", SCRIPTS / "train.py", "--step-limit", 6)
    try:
        wait_until(lambda: trial.saved("stopped") > 0, LIMIT_S, "a checkpoint")
        (victim,) = [
            member.pid
            for member in family.members()
            if member.role == "train" and b"PADDLE_TRAINER_ID=1" in Path(f"/proc/{member.pid}/environ").read_bytes()
        ]
        family.kill(victim, signal.SIGSTOP)
        assert family.wait(60) == 1
        said = family.text()
        assert "no sign of life from rank" in said and f"process {victim} is stopped by a signal" in said
        assert "Traceback" not in said and "tart again to go on" in said
        assert family.survivors() == []
    finally:
        family.end()
        trial.configure({"iterations": 6, "eval_interval": 6, "save_interval": 2})


def test_first_step_that_does_not_fit_begins_again_with_half_and_says_so(trial: TrainingTrial) -> None:
    """A stand-in for a full device: on a CPU nothing else makes Paddle raise what it raises on one."""
    program = faulty(
        trial,
        "small",
        """
        from stdc.machine import devices
        select = devices.select
        def select_and_patch(device):
            # Not before: the settings for Paddle must be made before it is imported.
            select(device)
            from stdc.training.step import Step
            call = Step.__call__
            def too_small(self, images, labels, iteration, stop):
                if self.micro_batch > 1:
                    raise MemoryError("ResourceExhaustedError: Out of memory error on GPU 0")
                return call(self, images, labels, iteration, stop)
            Step.__call__ = too_small
        devices.select = select_and_patch
        """,
    )
    family = start(trial, "small", program, devices=1)
    assert end(family) == 0, family.text()[-3000:]
    said = family.text()
    assert "2 images per forward pass do not fit into the memory of the device" in said
    assert "beginning again with 1" in said
    chosen = start(trial, "chosen", SCRIPTS / "train.py", "--micro-batch", 1, devices=1)
    assert end(chosen) == 0
    assert trial.results("small") == trial.results("chosen")
    whole = trial.finish("whole")
    assert whole["model"] != trial.results("small")["model"], "batch norm saw one image at a time"


def test_batch_that_the_devices_do_not_divide_is_trained_whole(trial: TrainingTrial) -> None:
    """Three images on two ranks: two and one, weighed so that the first step is that of one device."""
    try:
        first: Dict[int, Dict[str, float]] = {}
        for devices in (1, 2):
            trial.configure(
                {"iterations": 2, "save_interval": 2, "global_batch": 3, "evaluate": False, "log_interval": 1}
            )
            assert end(start(trial, f"three on {devices}", SCRIPTS / "train.py", devices=devices)) == 0
            history = (trial.folder / f"three on {devices}" / "history.jsonl").read_text().splitlines()
            first[devices] = next(event for event in map(json.loads, history) if "loss" in event)
        # A mean over images, which each rank takes over its own.
        assert first[2]["edge_share"] == pytest.approx(first[1]["edge_share"], rel=1e-6)
        # Each rank mines among its own pixels; at the start nearly all of them are hard.
        assert first[2]["loss"] == pytest.approx(first[1]["loss"], rel=5e-3)
    finally:
        trial.configure({"iterations": 6, "eval_interval": 6, "save_interval": 2})


def test_rasters_drawn_anew_are_another_run(trial: TrainingTrial) -> None:
    """Another Pillow, or a fix of the drawing, must not hand out the old weights as new."""
    trial.finish("rasters")
    (first,) = (trial.folder / "rasters" / "runs").iterdir()
    text = (trial.folder / "labels.json").read_text()
    raster = next((trial.folder / "labels").rglob("*_labelTrainIds.png"))
    before = raster.read_bytes()
    ids = np.full_like(cv2.imread(str(raster), cv2.IMREAD_UNCHANGED), 3)
    try:
        assert cv2.imwrite(str(raster), ids)
        split, frame = raster.parent.parent.name, raster.name.split("_gtFine")[0]
        index = json.loads(text)
        index["frames"][f"{split}/{frame}"] = sha256_file(raster)
        index["pixels"][f"{split}/{frame}"] = "ab" * 32
        (trial.folder / "labels.json").write_text(json.dumps(index))
        trial.finish("rasters")
        assert len(list((trial.folder / "rasters" / "runs").iterdir())) == 2 and first.is_dir()
    finally:
        raster.write_bytes(before)
        (trial.folder / "labels.json").write_text(text)


def test_checkpoint_slower_than_the_patience_of_gloo_ends_no_rank(
    trial: TrainingTrial, two_ranks: Dict[str, Any], slow: Family
) -> None:
    """Gloo gives up after 30 s; a slow network file system needed 40 s."""
    assert end(slow) == 0, slow.text()[-3000:]
    assert trial.results("slow") == two_ranks
