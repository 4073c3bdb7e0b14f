"""Signs of life, and who notices that there are none."""

import subprocess
import sys
from pathlib import Path

import pytest

from stdc.machine.heartbeat import EVALUATING, SAVING, TRAINING, WAITING, Heartbeat, Limits, Watch

LIMITS = Limits(step_s=10.0, pause_s=100.0, rendezvous_s=120.0)


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_process_that_says_nothing_new_for_longer_than_a_step_is_found(tmp_path):
    clock = Clock()
    beats = {name: Heartbeat(tmp_path / name) for name in ("rank 0", "rank 1")}
    watch = Watch({name: tmp_path / name for name in beats}, LIMITS, clock)
    for step in range(5):
        for beat in beats.values():
            beat.beat(TRAINING, step)
        clock.now += 9.0
        assert watch.silent() == []
    clock.now += 11.0
    beats["rank 0"].beat(WAITING, 5)
    (found,) = watch.silent()
    assert str(found) == "rank 1: training after iteration 4, for 11 s"


def test_evaluating_and_saving_may_take_their_time(tmp_path):
    clock = Clock()
    beat = Heartbeat(tmp_path / "beat")
    watch = Watch({"rank 0": tmp_path / "beat"}, LIMITS, clock)
    for phase in (EVALUATING, SAVING):
        beat.beat(phase, 7)
        assert watch.silent() == []
        clock.now += 99.0
        assert watch.silent() == []
    clock.now += 2.0
    assert [sign.phase for sign in watch.silent()] == [SAVING]


def test_process_that_never_said_anything_counts_from_the_start(tmp_path):
    clock = Clock()
    watch = Watch({"rank 0": tmp_path / "absent"}, LIMITS, clock)
    clock.now += LIMITS.rendezvous_s
    assert watch.silent() == []
    clock.now += 1.0
    assert [str(sign) for sign in watch.silent()] == ["rank 0: not begun, for 121 s"]


def test_heartbeat_that_nobody_looks_at_is_free():
    beat = Heartbeat(None)
    beat.beat(TRAINING, 1)
    beat.close()


@pytest.mark.parametrize(
    ("hang", "words"),
    [
        # A hang that lets other threads run, as most of Paddle's calls do.
        ("time.sleep(60)", "no sign of life: this process: training after iteration 3"),
    ],
)
def test_hung_process_that_nobody_watches_ends_itself_in_words(tmp_path: Path, hang: str, words: str) -> None:
    code = f"""
import pathlib, sys, time
from stdc.machine.heartbeat import Heartbeat, Limits, TRAINING, guarded
path = pathlib.Path({str(tmp_path / "beat")!r})
beat = Heartbeat(path)
with guarded(path, Limits(0.2, 0.2), lambda line: print(line, file=sys.stderr, flush=True), poll_s=0.05):
    beat.beat(TRAINING, 3)
    {hang}
"""
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert words in ended.stderr and "start again to go on" in ended.stderr
