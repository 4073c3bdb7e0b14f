"""A loss that is no number ends the run at once, and what was saved before stays good."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from families import Family
from programs import SCRIPTS
from trials import TrainingTrial

from stdc.errors import InputError
from stdc.training import checkpoints
from stdc.weights import array_files


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TrainingTrial:
    return TrainingTrial(tmp_path_factory.mktemp("trial"))


def run(trial: TrainingTrial, name: str) -> Family:
    family = trial.start(name)
    try:
        family.wait(90)
    finally:
        family.end()
    return family


def test_huge_learning_rate_ends_at_once_naming_the_frames_and_keeps_the_last_good_checkpoint(
    trial: TrainingTrial,
) -> None:
    trial.configure({"base_lr": 100.0, "warmup_iterations": 0, "save_interval": 1, "keep_checkpoint_max": 1})
    family = run(trial, "huge")
    said = family.text()
    assert family.head.returncode == 1 and "Traceback" not in said
    assert "training diverged at iteration" in said and "A smaller train.base_lr" in said
    folder = trial.run_folder("huge")
    assert folder is not None
    record = json.loads((folder / "diverged.json").read_text())
    frames = {path.name[: -len("_leftImg8bit.png")] for path in trial.dataset.glob("leftImg8bit/train/*/*.png")}
    assert len(record["frames"]) == 2 and set(record["frames"]) <= frames
    assert all(frame in said for frame in record["frames"])
    for manifest in folder.glob("checkpoints/*/manifest.json"):
        assert int(manifest.parent.name) < record["iteration"]
        for file in ("model.safetensors", "optimizer.safetensors"):
            arrays = array_files.read_safetensors(manifest.parent / file)
            assert all(np.isfinite(array).all() for array in arrays.values())
    assert not (trial.folder / "huge" / "model.pdparams").exists()


#: A trainer whose third step is of pictures that are no numbers, and whose data worker dies while a scheduler's signal
#: is on its way, before the values of that step were looked at.
SPOILED = """
import contextlib, os, signal, sys
sys.path[:0] = [{scripts!r}]
import program, train
from stdc.machine import devices
prepare = devices.prepare

def prepared(*arguments):
    # Only now may Paddle be imported.
    prepare(*arguments)
    from stdc.training import loop, pixels
    real, normalize, steps = loop.batches, pixels.Normalizer.__call__, []

    def dying(*arguments, **options):
        with contextlib.closing(real(*arguments, **options)) as inner:
            for number, batch in enumerate(inner):
                if number == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise loop.WorkerDied("data worker 0 (process 7) ended by SIGKILL")
                yield batch

    def spoiled(self, images):
        steps.append(1)
        return normalize(self, images) * (float("nan") if len(steps) == 3 else 1.0)

    loop.batches, pixels.Normalizer.__call__ = dying, spoiled

devices.prepare = prepared
if __name__ == "__main__":
    sys.exit(program.run(train.arguments(), train.main))
"""


def test_a_dead_worker_and_a_signal_after_a_step_that_is_no_number_save_nothing(trial: TrainingTrial) -> None:
    trial.configure({"save_interval": 100, "log_interval": 100, "evaluate": False})
    (trial.folder / "spoiled.py").write_text(SPOILED.format(scripts=str(SCRIPTS)), encoding="utf-8")
    (trial.folder / "spoiled").mkdir()
    command = trial.command("spoiled")
    command[:2] = [sys.executable, str(trial.folder / "spoiled.py")]
    at = command.index("--best")
    del command[at : at + 2]
    family = Family(command, trial.folder, trial.folder / "spoiled" / "said")
    try:
        code = family.wait(120)
    finally:
        family.end()
    assert code == 1 and "training diverged at iteration 3" in family.text(), family.text()[-2000:]
    folder = trial.run_folder("spoiled")
    assert folder is not None and list(folder.glob("checkpoints/*")) == [] and (folder / "diverged.json").exists()


def test_damaged_checkpoint_and_damaged_best_weights_are_skipped_by_a_run(trial: TrainingTrial) -> None:
    trial.configure({"iterations": 8, "eval_interval": 4, "save_interval": 4, "keep_checkpoint_max": 3})
    expected = trial.finish("undisturbed")
    trial.finish("damaged")
    folder = trial.run_folder("damaged")
    assert folder is not None
    newest = folder / "checkpoints" / "00000008"
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    for output in ("model", "best"):
        (trial.folder / "damaged" / f"{output}.pdparams").unlink()
    assert trial.finish("damaged") == expected
    said = (trial.folder / "damaged" / "said").read_text()
    assert "skipping a damaged checkpoint" in said and "resuming: checkpoint of iteration 4" in said
    # Now the best weights that both checkpoints refer to: all begins anew, and ends the same.
    for best in (folder / "best").iterdir():
        best.write_bytes(best.read_bytes()[:-1])
    assert trial.finish("damaged") == expected
    said = (trial.folder / "damaged" / "said").read_text()
    assert "the SHA-256 of the best weights so far differs" in said


def test_a_checkpoint_that_cannot_be_read_for_now_is_not_thrown_away(tmp_path: Path) -> None:
    arrays = {"w": np.ones(3, np.float32)}
    path = checkpoints.save(tmp_path, checkpoints.Checkpoint(1, arrays, arrays, {}), "a" * 64, keep=2)
    manifest = path / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    # It may lie on another disk, and the link may be wrong.
    manifest.symlink_to(manifest)
    with pytest.raises(InputError, match="a link that leads back to itself"):
        checkpoints.load_newest(tmp_path, "a" * 64, lambda _: None)
    manifest.unlink()
    manifest.write_text(text)
    assert checkpoints.load_newest(tmp_path, "a" * 64, lambda _: None) is not None
