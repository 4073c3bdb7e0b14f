"""How fast, and measured how: inference latency by the clock, training speed from the run's history.

The two are different things, and published figures mix them up: 250.4 FPS of the paper is inference with TensorRT at
512x1024, 14.36 of DeepSparkHub is training on eight cards or one of them. So each number here carries its method.
"""

from __future__ import annotations

import json
import math
import reprlib
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from stdc.errors import InputError
from stdc.files import read_json, read_text
from stdc.prediction.predictor import Predictor
from stdc.recipe import Speed

#: Timing ends after this many seconds, with the count that was reached: a CPU needs seconds for what a GPU does in one
#: hundredth of one.
LIMIT_S = 60.0
#: The same limit for the calls before the clock starts.
WARMUP_LIMIT_S = 15.0


def measure_inference(
    predictor: Predictor,
    speed: Speed,
    clock: Callable[[], float] = time.perf_counter,
    limit_s: float = LIMIT_S,
) -> Dict[str, Any]:
    """Latency of the network alone: normalized image in, train ids out, each call waited for.

    Args:
        clock: seconds, monotonic.
        limit_s: when to stop before all iterations are done.
    Returns:
        {"fps", "latency_ms": {"p50", "p95", "p99", "mean"}, "size", "batch", "warmup", "iterations", "backend", …}.
    """
    shape = (speed.batch, 3, speed.height, speed.width)
    # The input is noise, because some processors multiply zeros faster.
    pixels = predictor.load(np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32))

    def call() -> None:
        predictor.largest(predictor.logits(pixels))
        predictor.synchronize()

    warmup = len(timed(call, speed.warmup, clock, WARMUP_LIMIT_S))
    seconds = timed(call, speed.iterations, clock, limit_s)
    return {
        "fps": round(speed.batch * len(seconds) / math.fsum(seconds), 4),
        "latency_ms": latency(seconds),
        "size": [speed.height, speed.width],
        "batch": speed.batch,
        "warmup": warmup,
        "iterations": len(seconds),
        "backend": predictor.backend,
        "method": "network and argmax, synchronized after each call; no decoding, no copy of the input",
    }


def timed(call: Callable[[], None], count: int, clock: Callable[[], float], limit_s: float) -> List[float]:
    """Seconds of each of `count` calls, fewer where `limit_s` is up; at least one unless `count` is 0."""
    seconds: List[float] = []
    started = clock()
    while len(seconds) < count:
        before = clock()
        if seconds and before - started >= limit_s:
            break
        call()
        seconds.append(clock() - before)
    return seconds


def latency(seconds: Sequence[float]) -> Dict[str, float]:
    """Percentiles in milliseconds; each is a measured value, none is interpolated (nearest rank)."""
    ordered = sorted(seconds)
    figures = {f"p{share}": ordered[math.ceil(share / 100 * len(ordered)) - 1] for share in (50, 95, 99)}
    figures["mean"] = math.fsum(ordered) / len(ordered)
    return {name: round(1000 * value, 4) for name, value in figures.items()}


class Interval(NamedTuple):
    """One interval of a training's history: images per second, and the share of the time spent waiting for data."""

    images_per_s: float
    reader_wait_share: float


def read_intervals(path: Path) -> List[Interval]:
    """The intervals in a `history.jsonl`; other events are left out.

    Raises:
        InputError: names the file and the line that is no event of a training.
    """
    intervals = []
    lines = read_text(path, "a history").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError
            if "images_per_s" in event:
                intervals.append(Interval(_number(event["images_per_s"]), _number(event["reader_wait_share"])))
        except (ValueError, KeyError, RecursionError):
            raise InputError(f"{path}: line {number} is no event of a training: {reprlib.repr(line)}") from None
    return intervals


def read_devices(path: Path) -> int:
    """How many devices a training ran on, from its `provenance.json`.

    Raises:
        InputError: names the file; it is no provenance of a training.
    """
    document = read_json(path)
    hardware = document.get("hardware") if isinstance(document, dict) else None
    count = hardware.get("devices") if isinstance(hardware, dict) else None
    if type(count) is not int or count < 1:
        raise InputError(f"{path}: hardware.devices is {reprlib.repr(count)}; a provenance.json of a training has it")
    return count


def read_neighbors(path: Path) -> Optional[int]:
    """How many other devices of the machine were taken when a training began, from its `provenance.json`.

    None where it held no lease: on a CPU, or where a scheduler gave it its devices.
    """
    document = read_json(path)
    lease = document.get("lease") if isinstance(document, dict) else None
    count = lease.get("others") if isinstance(lease, dict) else None
    return count if type(count) is int else None


def training_speed(intervals: Sequence[Interval], devices: int) -> Dict[str, Any]:
    """Training images per second, median over the run's intervals, and the share of it spent waiting for data.

    The first interval is left out where there are others: it holds the start-up.
    """
    counted = intervals[1:] if len(intervals) > 1 else intervals
    if not counted:
        return {"images_per_s": None, "images_per_s_per_device": None, "devices": devices, "reader_wait_share": None}
    images = float(np.median([interval.images_per_s for interval in counted]))
    return {
        "images_per_s": round(images, 4),
        "images_per_s_per_device": round(images / devices, 4),
        "devices": devices,
        "reader_wait_share": round(float(np.median([interval.reader_wait_share for interval in counted])), 4),
        "intervals": len(counted),
    }


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST_SPEED:
        raise ValueError
    return float(value)


#: Images per second that no machine reaches; a larger number is a damaged file.
_LARGEST_SPEED = 1e9
