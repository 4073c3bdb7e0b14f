"""The folder of a run: one process at a time, and what a killed one left."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from other_things import OTHER_THINGS

from stdc.errors import InputError
from stdc.machine.heartbeat import Heartbeat
from stdc.training.run_folder import RunFolder


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    folder = RunFolder(tmp_path)
    half = folder.checkpoints / ".tmp-123-00000007"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-99-x.json").write_bytes(b"half")
    (folder.pictures / "00000004").mkdir(parents=True)
    (folder.pictures / "00000004" / ".tmp-5-a.png").write_bytes(b"half")
    folder.diverged.write_text("{}")
    folder.tidy({"run_hash": "a"})
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["identity.json"]


def hold(folder, ready):
    with folder.locked(lambda _: None):
        ready.set()
        time.sleep(60)


def test_lock_waits_for_its_holder_and_ends_with_a_killed_one(tmp_path):
    folder = RunFolder(tmp_path)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(folder, ready))
    holder.start()
    try:
        assert ready.wait(10)
        lines = []
        with pytest.raises(TimeoutError), folder.locked(lines.append, poll_s=0.01, limit_s=0.05):
            pass
        assert lines and f"process {holder.pid}" in lines[0]
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.join(10)
    with folder.locked(lines.append, poll_s=0.01, limit_s=5):
        assert str(os.getpid()) in folder.lock.read_text()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_told_and_the_run_goes_on(tmp_path, monkeypatch, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    lines = []
    with RunFolder(tmp_path).locked(lines.append, limit_s=1):
        pass
    assert len(lines) == 1 and "has no locks" in lines[0]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", OTHER_THINGS)
def test_something_else_in_the_place_of_lock_or_heartbeat_ends_in_words(tmp_path: Path, kind: str) -> None:
    folder = RunFolder(tmp_path)
    for path in (folder.lock, folder.heartbeat):
        OTHER_THINGS[kind](path)
    with pytest.raises(InputError, match=r"/lock: a .*"), folder.locked(lambda _: None):
        pass
    with pytest.raises(InputError, match=r"/heartbeat: a .*"):
        Heartbeat(folder.heartbeat)


def test_status_names_state_process_and_machine(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_status("saving", name="mini", seed=1)
    told = json.loads(folder.status.read_text())
    assert (told["state"], told["name"], told["seed"], told["pid"]) == ("saving", "mini", 1, os.getpid())
    assert told["host"] == os.uname().nodename


@pytest.mark.parametrize(
    "text", ["", "{", "null", "{}", "[1]", '[{"from_iteration": "0"}]', "[" * 100_000, '[{"a": NaN}]']
)
def test_damaged_segments_end_no_training(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_segments() == []
    sound = [{"from_iteration": 0, "to_iteration": 2, "started": "then", "finished": "later", "commit": None}]
    folder.segments.write_text(json.dumps(sound))
    assert folder.read_segments() == sound
    folder.segments.write_text(text)
    assert folder.read_segments() == []
