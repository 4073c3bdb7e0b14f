"""Speed figures, worked out by hand with a clock of our own."""

import json

import pytest

from stdc.errors import InputError
from stdc.evaluation.speed import latency, measure_inference, read_devices, read_intervals, timed, training_speed
from stdc.recipe import Speed


class Clock:
    def __init__(self, *durations):
        self.now, self.durations = 0.0, list(durations)

    def __call__(self):
        return self.now

    def call(self):
        self.now += self.durations.pop(0)


def test_percentiles_are_measured_values_by_nearest_rank():
    seconds = [value / 1000 for value in range(100, 0, -1)]
    assert latency(seconds) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "mean": 50.5}
    assert latency([0.004]) == {"p50": 4.0, "p95": 4.0, "p99": 4.0, "mean": 4.0}
    assert latency([0.003, 0.001])["p50"] == 1.0


def test_timing_stops_at_the_limit_with_the_count_that_was_reached():
    clock = Clock(*[2.0] * 10)
    assert timed(clock.call, 10, clock, limit_s=5.0) == [2.0, 2.0, 2.0]
    clock = Clock(9.0)
    assert timed(clock.call, 4, clock, limit_s=1.0) == [9.0], "one call is always timed"
    assert timed(clock.call, 0, clock, limit_s=1.0) == []


def test_training_speed_leaves_out_the_start_up_and_divides_by_devices(tmp_path):
    events = [
        {"iteration": 10, "images_per_s": 1.0, "reader_wait_share": 0.9},
        {"iteration": 20, "images_per_s": 14.0, "reader_wait_share": 0.1},
        {"iteration": 20, "miou": 0.5},
        {"iteration": 30, "images_per_s": 16, "reader_wait_share": 0.3},
        {"iteration": 40, "images_per_s": 15.0, "reader_wait_share": 0.2},
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    found = training_speed(read_intervals(tmp_path / "history.jsonl"), devices=2)
    assert (found["images_per_s"], found["images_per_s_per_device"], found["reader_wait_share"]) == (15.0, 7.5, 0.2)
    assert found["intervals"] == 3


def test_history_without_speed_gives_no_figure_instead_of_a_guess():
    assert training_speed([], 1)["images_per_s"] is None


@pytest.mark.parametrize("line", ["[1]", "{", '{"images_per_s": 1}', '{"images_per_s": "1", "reader_wait_share": 0}'])
def test_history_that_is_none_is_refused_with_its_line(tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_text('{"iteration": 1, "miou": 0.1}\n' + line + "\n")
    with pytest.raises(InputError, match=r"history\.jsonl: line 2 is no event"):
        read_intervals(path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"hardware": 1}', '{"hardware": {"devices": true}}', "no JSON"])
def test_provenance_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(InputError, match=r"provenance\.json: "):
        read_devices(tmp_path / "provenance.json")


def test_measured_network_reports_its_method():
    paddle = pytest.importorskip("paddle")
    from stdc.prediction.predict import PaddlePredictor

    class Network(paddle.nn.Layer):
        def forward(self, x):
            return paddle.concat([x, x], axis=1)

    speed = Speed(height=32, width=64, batch=2, warmup=1, iterations=5)
    found = measure_inference(PaddlePredictor(Network(), "cpu"), speed)
    assert found["size"] == [32, 64] and found["iterations"] == 5 and found["warmup"] == 1
    assert found["fps"] > 0 and found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["backend"].startswith("paddle")
