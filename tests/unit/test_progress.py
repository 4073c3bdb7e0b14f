from __future__ import annotations

import io

from stdc.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, steps, seconds_a_step):
    times = iter(step * seconds_a_step for step in range(10_000))
    line = Progress("frames", 1000, stream, clock=lambda: next(times))
    for _ in range(steps):
        line.step()
    return line


def test_log_gets_a_line_every_half_minute_with_rate_and_time_left():
    stream = io.StringIO()
    run(stream, 100, 1.0).finish()
    assert stream.getvalue().splitlines() == [
        "30/1000 frames, 1/s, 0:16:10 left",
        "60/1000 frames, 1/s, 0:15:40 left",
        "90/1000 frames, 1/s, 0:15:10 left",
        "100 frames in 101.0 s (0.99/s)",
    ]


def test_short_work_is_not_mentioned_in_a_log():
    stream = io.StringIO()
    run(stream, 3, 1.0).finish()
    assert stream.getvalue() == ""


def test_terminal_line_is_rewritten():
    stream = Terminal()
    run(stream, 2, 100.0)
    assert stream.getvalue().startswith("\r1/1000 frames, 0.01/s, 27:45:00 left\033[K\r2/1000")
    assert "\n" not in stream.getvalue()
