"""Checkpoints: whole or absent, newest valid one wins."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from other_things import OTHER_THINGS, put

from stdc import files
from stdc.errors import InputError
from stdc.training import checkpoints
from stdc.training.best import BestWeights
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


def test_manifest_is_plain_json_for_other_tools(tmp_path):
    manifest = json.loads((checkpoints.save(tmp_path, make(1), RUN, 1) / "manifest.json").read_text())
    assert set(manifest) == {"format", "run_hash", "iteration", "files", "state", "state_sha256"}


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "history.jsonl"])
def test_checkpoint_that_cannot_be_read_now_is_an_error_and_not_damage(tmp_path, name, monkeypatch):
    """One I/O error must not start a run over from an older checkpoint, whose saves would then delete the newer one."""
    for iteration in (1, 2):
        checkpoints.save(tmp_path, make(iteration), RUN, keep=3)
    named = files._NamedFile._named

    def failing(self):
        if Path(self.name) == tmp_path / "00000002" / name:
            raise OSError(errno.EIO, "Input/output error")
        return named(self)

    monkeypatch.setattr(files._NamedFile, "_named", failing)
    with pytest.raises(OSError, match="Input/output error"):
        load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000002"]


def test_newest_to_consider_can_be_given(tmp_path):
    for iteration in (1, 2, 3):
        checkpoints.save(tmp_path, make(iteration), RUN, keep=3)
    assert checkpoints.load_newest(tmp_path, RUN, print, newest=2).iteration == 2


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "MB are free"), (errno.EDQUOT, "the quota of this user is used up")]
)
def test_full_disk_and_used_up_quota_are_told_and_leave_what_was_there(tmp_path, monkeypatch, number, words):
    checkpoints.save(tmp_path, make(1), RUN, keep=2)

    def refused(*_):
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "posix_fallocate", refused)
    with pytest.raises(
        OSError, match=f"no space left for the checkpoint of iteration 2: 0 MB are needed, .*{words}"
    ) as error:
        checkpoints.save(tmp_path, make(2), RUN, keep=2)
    assert error.value.errno == number
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    assert load(tmp_path)[0].iteration == 1


@pytest.mark.parametrize("kind", OTHER_THINGS)
@pytest.mark.parametrize("name", ["model.safetensors", "history.jsonl", "manifest.json"])
def test_something_else_in_the_place_of_a_file_ends_in_words_and_nothing_is_given_up(tmp_path, name, kind):
    checkpoints.save(tmp_path, make(1), RUN, keep=3)
    put(kind, checkpoints.save(tmp_path, make(2), RUN, keep=3) / name)
    with pytest.raises(InputError, match=rf"00000002/{name}: a .*; put the file back, or remove what stands there"):
        load(tmp_path)


@pytest.mark.parametrize("kind", OTHER_THINGS)
def test_something_else_in_the_place_of_the_best_weights_ends_in_words(tmp_path, kind):
    best = BestWeights(tmp_path)
    record = best.keep({"w": np.ones(3, np.float32)}, 4, 0.5)
    put(kind, best.path(4))
    with pytest.raises(InputError, match=r"00000004\.safetensors: a .*; put the file back, or remove"):
        best.read(record)


def test_file_that_grew_without_end_is_not_read(tmp_path):
    checkpoints.save(tmp_path, make(1), RUN, keep=3)
    # Takes no disk, and does not fit into any memory.
    os.truncate(checkpoints.save(tmp_path, make(2), RUN, keep=3) / "model.safetensors", 1 << 42)
    os.truncate(checkpoints.save(tmp_path, make(3), RUN, keep=3) / "manifest.json", 1 << 42)
    found, said = load(tmp_path)
    assert found.iteration == 1 and len(said) == 2 and "4398046511104 bytes" in said[1]
