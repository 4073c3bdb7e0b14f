"""The history file: over resumes without a gap and without a repeat."""

import json

import pytest

from stdc.training.history import History, read_history


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
    assert [event["iteration"] for event in read_history(path)] == [10, 20, 30]
    resumed = History(path, at_the_checkpoint)
    resumed.add({"iteration": 30, "loss": 3.0})
    resumed.close()
    assert [event["iteration"] for event in read_history(path)] == [10, 20, 30]


def test_half_a_line_is_dropped_at_the_end_only(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"iteration": 1}\n{"iter\n{"iteration": 3}\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read_history(path)


def test_history_refuses_what_is_not_json(tmp_path):
    history = History(tmp_path / "history.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        history.add({"iteration": 1, "loss": float("nan")})
    history.close()


def test_history_lines_are_sorted_json(tmp_path):
    history = History(tmp_path / "h.jsonl")
    history.add({"lr": 0.1, "iteration": 1})
    history.close()
    assert (tmp_path / "h.jsonl").read_text() == json.dumps({"iteration": 1, "lr": 0.1}) + "\n"
