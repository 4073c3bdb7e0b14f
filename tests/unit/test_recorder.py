"""What a run tells while it is at work."""

import json

import numpy as np
import pytest

from stdc.recipe import Loop, part_of, resolve
from stdc.training.history import read_history
from stdc.training.recorder import Recorder, SilentRecorder, Speedometer, ValidationResult, segments_until
from stdc.training.run_folder import RunFolder

TRAIN = {"preset": "paddleseg", "iterations": 100, "global_batch": 8, "crop_height": 64, "crop_width": 64}
TRAIN = {**TRAIN, "evaluate": True, "eval_interval": 50, "visualdl": False}
SCHEDULE, LOOP = resolve(TRAIN).schedule, part_of(Loop, TRAIN)


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture()
def recorder(tmp_path):
    folder = RunFolder(tmp_path)
    lines = []
    made = Recorder(
        folder,
        schedule=SCHEDULE,
        loop=LOOP,
        log=lines.append,
        names={"name": "mini", "seed": 3},
        segment={"commit": "abc"},
    )
    made.lines = lines
    yield made
    made.close()


def status(recorder):
    return json.loads(recorder.folder.status.read_text())


def test_speed_counts_images_and_waiting():
    clock = Clock()
    speed = Speedometer(SCHEDULE, LOOP, clock)
    for _ in range(4):
        clock.now += 0.5
        speed.step(wait_s=0.1)
    # 4 steps of 8 images in 2 s, 0.4 s of them waiting; 96 steps of 0.5 s to go.
    assert speed.take() == {"images_per_s": 16.0, "reader_wait_share": 0.2}
    assert speed.eta_s(4) == pytest.approx(48.0)


def test_time_to_go_counts_the_evaluations_that_are_left_and_is_smooth():
    clock = Clock()
    speed = Speedometer(SCHEDULE, LOOP, clock)
    clock.now += 50.0
    for _ in range(50):
        speed.step(0.0)
    speed.take()
    speed.paused(30.0)
    # 50 steps of 1 s, and the evaluation of the last step.
    assert speed.eta_s(50) == pytest.approx(50.0 + 30.0)
    clock.now += 10.0
    speed.step(0.0)
    speed.take()
    # One step of 10 s moves the smoothed time of a step from 1 s to 3.7 s, not to 10 s.
    assert speed.eta_s(51) == pytest.approx(49 * 3.7 + 30.0)


def test_first_step_is_told_at_once_and_an_evaluation_in_percent(recorder):
    recorder.begin(0, "", None)
    recorder.stepped(1, 0.0)
    assert recorder.lines[0].startswith("1/100 | first step after ")
    found = ValidationResult(0.10812, {"road": 0.5, "train": None}, {"a_000000_000000": np.zeros((2, 2, 3), np.uint8)})
    recorder.evaluated(50, found, {"iteration": 50, "miou": 0.10812}, 3.0)
    assert recorder.lines[-1] == "50/100 | validation mIoU 10.81 % (best so far)"
    (event,) = read_history(recorder.folder.history)
    assert event["miou"] == 0.10812 and event["class_iou"] == {"road": 0.5, "train": None} and event["time"] > 1e9
    assert (recorder.folder.pictures / "00000050" / "a_000000_000000.png").is_file()


def test_validation_without_a_labeled_pixel_has_no_score(recorder):
    recorder.begin(0, "", None)
    recorder.evaluated(50, ValidationResult(None, {}, {}), None, 1.0)
    assert recorder.lines[-1] == "50/100 | validation mIoU none, no labeled pixel"
    assert read_history(recorder.folder.history)[0]["miou"] is None


def test_status_says_who_does_what_in_every_state(recorder):
    recorder.begin(10, "", None)
    assert {"state": "running", "name": "mini", "seed": 3, "iteration": 10, "iterations": 100}.items() <= status(
        recorder
    ).items()
    recorder.losses(20, 0.01, {"loss": 1.5})
    recorder.state("saving")
    told = status(recorder)
    assert (told["state"], told["iteration"], told["loss"]) == ("saving", 20, 1.5)
    assert {"time", "pid", "host", "eta_s", "images_per_s", "reader_wait_share", "best"} <= set(told)
    recorder.diverged(21, ["a"], {"loss": float("nan")})
    assert status(recorder)["state"] == "diverged"
    assert json.loads(recorder.folder.diverged.read_text())["losses"] == {"loss": "nan"}


def test_status_of_a_run_that_goes_on_tells_what_was_found_before(recorder):
    events = [{"iteration": 40, "loss": 3.0, "images_per_s": 9.0}, {"iteration": 50, "miou": 0.25}]
    recorder.begin(60, "".join(json.dumps(event) + "\n" for event in events), None)
    told = status(recorder)
    assert (told["iteration"], told["loss"], told["images_per_s"], told["miou"]) == (60, 3.0, 9.0, 0.25)


def test_segments_of_an_interrupted_run_add_up_to_it(recorder):
    recorder.begin(0, "", None)
    recorder.saved(40)
    assert [(part["from_iteration"], part["to_iteration"]) for part in recorder.folder.read_segments()] == [(0, 40)]
    recorder.begin(40, "", None)
    recorder.saved(100)
    parts = recorder.folder.read_segments()
    assert [(part["from_iteration"], part["to_iteration"]) for part in parts] == [(0, 40), (40, 100)]
    assert all(part["commit"] == "abc" and part["started"] <= part["finished"] for part in parts)


@pytest.mark.parametrize(
    ("parts", "iteration", "kept"),
    [
        ([(0, 40)], 40, [(0, 40)]),
        # Killed after a checkpoint that the file does not know yet.
        ([(0, 40)], 60, [(0, 60)]),
        # The newest checkpoint is damaged: what led to it counts no more.
        ([(0, 40), (40, 80)], 20, [(0, 20)]),
        ([(0, 40)], 0, []),
    ],
)
def test_segments_end_where_the_run_goes_on(parts, iteration, kept):
    segments = [{"from_iteration": first, "to_iteration": last} for first, last in parts]
    assert [(part["from_iteration"], part["to_iteration"]) for part in segments_until(segments, iteration)] == kept


def test_silent_recorder_has_every_method_of_the_other_and_writes_nothing(tmp_path):
    public = {name for name in vars(Recorder) if not name.startswith("_")}
    assert public == {name for name in vars(SilentRecorder) if not name.startswith("_")}
    silent = SilentRecorder()
    silent.begin(0, "", None)
    silent.losses(1, 0.1, {"loss": 1.0})
    silent.close()
    assert silent.history_text() == ""
