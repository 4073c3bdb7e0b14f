"""VisualDL records, read back by VisualDL's own reader."""

import errno
from pathlib import Path

import numpy as np
import pytest

from stdc.errors import RunError
from stdc.training import visualdl
from stdc.training.history import History
from stdc.training.run_folder import RunFolder
from stdc.training.visualdl import ScalarLog, keep_pictures, write_visualdl

EVENTS = [
    {"iteration": 1, "loss": 1.0, "lr": 0.01, "time": 1000.5},
    {"iteration": 2, "loss": 0.5, "lr": 0.01, "time": 1002.5},
    {"iteration": 2, "miou": 0.25, "class_iou": {"road": 0.5, "train": None}, "time": 1003.0},
]


@pytest.fixture()
def folder(tmp_path: Path) -> RunFolder:
    """A finished run with three events and one picture."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    history = History(run.history)
    for event in EVENTS:
        history.add(event)
    history.close()
    keep_pictures(run, 2, {"a_000000_000000": np.zeros((4, 6, 3), np.uint8)})
    return run


def read(folder: Path, kind: str, tag: str):
    from visualdl import LogReader

    (record,) = folder.iterdir()
    return LogReader(file_path=str(record)).get_data(kind, tag)


def test_finished_run_holds_scalars_and_pictures_once_with_their_times(folder, tmp_path):
    write_visualdl(folder, tmp_path / "vdl")
    loss = read(tmp_path / "vdl", "scalar", "train/loss")
    assert [(item.id, round(item.value, 6), item.timestamp) for item in loss] == [
        (1, 1.0, 1000500),
        (2, 0.5, 1002500),
    ]
    assert [item.id for item in read(tmp_path / "vdl", "scalar", "evaluate/miou")] == [2]
    assert [item.value for item in read(tmp_path / "vdl", "scalar", "class_iou/road")] == [0.5]
    assert [item.id for item in read(tmp_path / "vdl", "image", "prediction/a_000000_000000")] == [2]


def test_records_of_a_resumed_run_are_one_curve(tmp_path):
    ScalarLog(tmp_path / "vdl", EVENTS[:1]).close()
    log = ScalarLog(tmp_path / "vdl", EVENTS[:1])
    log.event(EVENTS[1])
    log.close()
    assert [item.id for item in read(tmp_path / "vdl", "scalar", "train/loss")] == [1, 2]


def test_what_a_killed_writer_left_becomes_no_picture(folder, tmp_path):
    (folder.pictures / "00000002" / ".tmp-7-b.png").write_bytes(b"half")
    write_visualdl(folder, tmp_path / "vdl")
    assert [item.id for item in read(tmp_path / "vdl", "image", "prediction/a_000000_000000")] == [2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_records_that_did_not_reach_the_disk_are_an_error_and_leave_nothing(folder, tmp_path, monkeypatch, number):
    """VisualDL writes from a thread of its own, which ends silently where the disk is full."""
    from visualdl.writer import record_writer

    write = record_writer.RecordWriter.write

    def full(self, data):
        if getattr(self, "failed", False):
            raise OSError(number, "no")
        self.failed = True
        return write(self, data)

    monkeypatch.setattr(record_writer.RecordWriter, "write", full)
    monkeypatch.setattr("threading.excepthook", lambda *_: None)
    with pytest.raises((RunError, OSError), match=r"not whole|no"):
        write_visualdl(folder, tmp_path / "vdl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_events_that_went_missing_are_counted(folder, tmp_path, monkeypatch):
    class Forgetful(ScalarLog):
        def event(self, event):
            if event["iteration"] == 1:
                super().event(event)

    monkeypatch.setattr(visualdl, "ScalarLog", Forgetful)
    with pytest.raises(RunError, match=r"2 of 6 values and 1 of 1 pictures"):
        write_visualdl(folder, tmp_path / "vdl")
