"""Checkpoints: whole or absent, newest valid one wins."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from stdc.training import checkpoints
from stdc.training.checkpoints import Checkpoint

RUN = "a" * 64


def make(iteration):
    model = {"w": np.full((3, 2), iteration, np.float32), "n": np.array(iteration)}
    return Checkpoint(iteration, model, {"w.velocity": np.ones((3, 2), np.float32)}, {"best": None, "loss": 0.1 + 0.2})


def load(folder, run_hash=RUN):
    said = []
    return checkpoints.load_newest(folder, run_hash, said.append), said


def test_what_was_saved_comes_back_bit_for_bit(tmp_path):
    checkpoints.save(tmp_path, make(5), RUN, keep=2)
    found, said = load(tmp_path)
    assert found.iteration == 5 and found.state == {"best": None, "loss": 0.1 + 0.2} and said == []
    assert np.array_equal(found.model["w"], make(5).model["w"]) and found.model["n"].shape == ()
    assert np.array_equal(found.optimizer["w.velocity"], np.ones((3, 2)))


def test_only_the_newest_are_kept(tmp_path):
    for iteration in (1, 2, 3, 4):
        checkpoints.save(tmp_path, make(iteration), RUN, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003", "00000004"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damaged_checkpoint_is_reported_and_the_one_before_taken(tmp_path, name, damage):
    checkpoints.save(tmp_path, make(1), RUN, keep=3)
    path = checkpoints.save(tmp_path, make(2), RUN, keep=3) / name
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[:-3])
    else:
        # Inside the numbers of a tensor, and inside the state of the manifest.
        place = data.index(b"0.300") if name == "manifest.json" else len(data) - 2
        data[place] ^= 0x01
        path.write_bytes(data)
    found, said = load(tmp_path)
    assert found.iteration == 1
    assert len(said) == 1 and "00000002" in said[0]


def test_damaged_newest_never_costs_the_good_one_even_when_one_is_kept(tmp_path):
    checkpoints.save(tmp_path, make(1), RUN, keep=2)
    newest = checkpoints.save(tmp_path, make(9), RUN, keep=2)
    (newest / "manifest.json").write_text("{")
    # Resumed from 1; the next save must count itself, not the damaged 9, as the newest.
    checkpoints.save(tmp_path, make(4), RUN, keep=1)
    found, _ = load(tmp_path)
    assert found.iteration == 4


def test_checkpoint_of_another_run_is_not_loaded(tmp_path):
    checkpoints.save(tmp_path, make(3), "b" * 64, keep=1)
    found, said = load(tmp_path)
    assert found is None and "belongs to run bbbb" in said[0]


def test_no_folder_and_empty_folder_mean_start_at_the_beginning(tmp_path):
    assert load(tmp_path / "absent") == (None, [])
    assert load(tmp_path) == (None, [])


def test_failing_write_leaves_earlier_checkpoints_and_nothing_half_written(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, make(1), RUN, keep=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.files, "write_json", full)
    with pytest.raises(OSError, match="earlier checkpoints are intact"):
        checkpoints.save(tmp_path, make(2), RUN, keep=1)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001"]
    assert load(tmp_path)[0].iteration == 1


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / ".tmp-123-00000007").mkdir()
    (tmp_path / ".tmp-123-00000007" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-99-x.json").write_bytes(b"half")
    checkpoints.remove_temporary(tmp_path)
    assert list(tmp_path.iterdir()) == []


def hold(folder, ready):
    with checkpoints.locked(folder, lambda _: None):
        ready.set()
        time.sleep(60)


def test_lock_waits_for_its_holder_and_ends_with_a_killed_one(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    try:
        assert ready.wait(10)
        said = []
        with pytest.raises(TimeoutError), checkpoints.locked(tmp_path, said.append, poll_s=0.01, limit_s=0.05):
            pass
        assert said and f"process {holder.pid}" in said[0]
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.join(10)
    with checkpoints.locked(tmp_path, said.append, poll_s=0.01, limit_s=5):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_manifest_is_plain_json_for_other_tools(tmp_path):
    manifest = json.loads((checkpoints.save(tmp_path, make(1), RUN, 1) / "manifest.json").read_text())
    assert set(manifest) == {"format", "run_hash", "iteration", "files", "state", "state_sha256"}
