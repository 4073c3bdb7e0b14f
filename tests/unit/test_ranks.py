"""What the watcher of the ranks reports, and what ranks may know."""

import os
import signal

import pytest

from stdc import files
from stdc.errors import InputError, RunError, StoppedError
from stdc.machine import ranks, watcher


def report(folder, rank, code, message, time):
    files.write_json(folder / f"rank{rank}.json", {"rank": rank, "exit_code": code, "message": message, "time": time})


def test_first_failing_rank_is_named_not_the_ones_it_took_along(tmp_path):
    report(tmp_path, 0, 1, "RuntimeError: connection reset by peer", 20.0)
    report(tmp_path, 1, 1, "ValueError: the cause", 10.0)
    error = watcher.first_error(tmp_path, 250, tmp_path)
    assert isinstance(error, RunError) and "rank 1 failed: ValueError: the cause" in str(error)


def test_wrong_input_found_by_a_rank_keeps_its_exit_code(tmp_path):
    report(tmp_path, 1, 2, "x.png: not readable", 1.0)
    report(tmp_path, 0, 1, "connection reset", 2.0)
    error = watcher.first_error(tmp_path, 250, tmp_path)
    assert isinstance(error, InputError) and str(error) == "x.png: not readable"


def test_ranks_that_all_stopped_on_request_are_no_failure(tmp_path):
    for rank in (0, 1):
        report(tmp_path, rank, 75, "stopped", float(rank))
    assert isinstance(watcher.first_error(tmp_path, 75, tmp_path), StoppedError)
    report(tmp_path, 1, 1, "boom", 9.0)
    assert isinstance(watcher.first_error(tmp_path, 1, tmp_path), RunError)


def test_rank_that_died_without_a_word_is_told_with_the_place_of_its_log(tmp_path):
    assert "died without a word (launcher's exit code 247)" in str(watcher.first_error(tmp_path, 247, tmp_path))


def test_ranks_inherit_settings_but_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    environment = watcher._rank_environment("cpu", tmp_path, 1)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert not {"SECRET_TOKEN", "AWS_SECRET_ACCESS_KEY"} & set(environment)
    assert watcher._rank_environment("gpu", tmp_path, 1)["CUDA_VISIBLE_DEVICES"] == ""


def test_log_option_is_not_passed_to_ranks():
    argv = ["train.py", "--seed", "1", "--log", "a b.log", "--model", "m"]
    assert ranks.without_option(argv, "--log") == ["train.py", "--seed", "1", "--model", "m"]
    assert ranks.without_option(["--log=x", "--model", "m"], "--log") == ["--model", "m"]


def test_signals_become_a_request_and_old_handlers_come_back():
    before = signal.getsignal(signal.SIGUSR1)
    with ranks.StopRequest() as stop:
        assert stop.name is None
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.name == "SIGUSR1"
    assert signal.getsignal(signal.SIGUSR1) is before


def test_process_of_its_own_is_rank_zero_of_one(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "3")
    assert not ranks.in_rank() and ranks.rank_and_world() == (0, 1)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("x.png: cut"), 2, "x.png: cut"),
        (StoppedError("saved"), 75, "saved"),
        (KeyError("a"), 1, "KeyError: 'a'"),
    ],
)
def test_rank_leaves_its_error_for_the_watcher(tmp_path, monkeypatch, error, code, message):
    monkeypatch.setenv("STDC_RANK_FOLDER", str(tmp_path))
    with pytest.raises(type(error)), ranks.reporting_rank():
        raise error
    left = files.read_json(tmp_path / "rank0.json")
    assert (left["exit_code"], left["message"]) == (code, message)


def test_meeting_waits_for_every_rank_and_names_the_missing_ones(tmp_path, monkeypatch):
    (tmp_path / "meet").mkdir()
    monkeypatch.setenv("STDC_RANK_WATCHER", "1")
    monkeypatch.setenv("STDC_RANK_FOLDER", str(tmp_path))
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "3")
    (tmp_path / "meet" / "saved-5.1").touch()
    with pytest.raises(RunError, match=r"rank 0 waited 0 s for rank 2 \(saved-5\)"):
        ranks.meet("saved-5", 0.05)
    (tmp_path / "meet" / "saved-5.2").touch()
    ranks.meet("saved-5", 0.05)


def test_exchange_gives_every_ranks_text_by_rank(tmp_path, monkeypatch):
    (tmp_path / "meet").mkdir()
    monkeypatch.setenv("STDC_RANK_WATCHER", "1")
    monkeypatch.setenv("STDC_RANK_FOLDER", str(tmp_path))
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    files.write_text(tmp_path / "meet" / "checkpoint.0.text", "15")
    (tmp_path / "meet" / "checkpoint.0").touch()
    assert ranks.exchange("checkpoint", "10", 1.0) == ["15", "10"]


def test_process_of_its_own_meets_nobody():
    ranks.meet("anything", 0.0)
    assert ranks.exchange("anything", "x", 0.0) == ["x"]


def test_line_of_a_rank_reaches_the_watcher_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("STDC_RANK_FOLDER", str(tmp_path))
    ranks.tell("1/2 | loss 3")
    ranks.tell("2/2 | loss 2")
    assert (tmp_path / "messages.0").read_text() == "1/2 | loss 3\n2/2 | loss 2\n"
