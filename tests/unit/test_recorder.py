"""What a run tells: history over resumes, VisualDL, progress."""

import json

import numpy as np
import pytest

from stdc.training.recorder import History, Progress, ScalarLog, keep_pictures, read_history, write_visualdl


def test_history_of_a_resumed_run_has_no_gap_and_no_repeat(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History(path)
    for iteration in (10, 20, 30):
        history.add({"iteration": iteration, "loss": iteration / 10})
        if iteration == 20:
            at_the_checkpoint = history.text()
    history.close()
    # Killed after iteration 30, in the middle of a line; the last checkpoint is of iteration 20.
    with path.open("a") as handle:
        handle.write('{"iteration": 40, "lo')
    resumed = History(path, at_the_checkpoint)
    resumed.add({"iteration": 30, "loss": 3.0})
    resumed.close()
    assert [event["iteration"] for event in read_history(path)] == [10, 20, 30]


def test_history_refuses_what_is_not_json(tmp_path):
    history = History(tmp_path / "history.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        history.add({"iteration": 1, "loss": float("nan")})
    history.close()


def test_visualdl_of_a_finished_run_holds_scalars_and_pictures_once(tmp_path):
    run = tmp_path / "run"
    history = History(run / "history.jsonl") if run.mkdir() is None else None
    for iteration in (1, 2):
        history.add({"iteration": iteration, "loss": 1.0 / iteration, "lr": 0.01})
    history.add({"iteration": 2, "miou": 0.25})
    history.close()
    keep_pictures(run, 2, {"a_000000_000000": np.zeros((4, 6, 3), np.uint8)})
    write_visualdl(run, tmp_path / "vdl")
    from visualdl import LogReader

    (record,) = (tmp_path / "vdl").iterdir()
    reader = LogReader(file_path=str(record))
    assert [(item.id, round(item.value, 6)) for item in reader.get_data("scalar", "train/loss")] == [(1, 1.0), (2, 0.5)]
    assert [item.id for item in reader.get_data("scalar", "evaluate/miou")] == [2]
    assert [item.id for item in reader.get_data("image", "prediction/a_000000_000000")] == [2]


def test_switched_off_log_writes_nothing(tmp_path):
    log = ScalarLog(None)
    log.event({"iteration": 1, "loss": 1.0})
    log.picture("x", np.zeros((2, 2, 3), np.uint8), 1)
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_images_and_waiting(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("stdc.training.recorder.time.perf_counter", lambda: now[0])
    progress = Progress(iterations=100, images_per_step=8)
    assert progress.eta(0) == "?"
    for _ in range(4):
        now[0] += 0.5
        progress.step(wait_s=0.1)
    # 4 steps of 8 images in 2 s, 0.4 s of them waiting; 96 steps of 0.5 s to go.
    assert progress.take() == {"images_per_s": 16.0, "reader_wait_share": 0.2}
    assert progress.eta(4) == "0:00:48"


def test_history_lines_are_sorted_json(tmp_path):
    history = History(tmp_path / "h.jsonl")
    history.add({"lr": 0.1, "iteration": 1})
    history.close()
    assert (tmp_path / "h.jsonl").read_text() == json.dumps({"iteration": 1, "lr": 0.1}) + "\n"
