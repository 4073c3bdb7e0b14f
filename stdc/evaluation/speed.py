"""How fast, and measured how: inference latency by the clock, training speed from the run's history.

The two are different things, and published figures mix them up: 250.4 FPS of the paper is inference with TensorRT at
512x1024, 14.36 of DeepSparkHub is training on eight cards or one of them. So each number here carries its method.
"""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Dict, List, Mapping, Sequence

import numpy as np

#: Timing ends after this many seconds, with the count that was reached: a CPU needs seconds for what a GPU does in one
#: hundredth of one.
LIMIT_S = 60.0
#: The same for the calls before the clock starts.
WARMUP_LIMIT_S = 15.0


def measure_inference(
    model: Any,
    section: Mapping[str, int],
    device_kind: str,
    clock: Callable[[], float] = time.perf_counter,
    limit_s: float = LIMIT_S,
) -> Dict[str, Any]:
    """Latency of the network alone: normalized image in, train ids out, each call waited for.

    Args:
        model: in evaluation mode; gives logits (N, 19, H, W).
        section: the `speed` section: height, width, batch, warmup, iterations.
        clock: seconds, monotonic.
        limit_s: when to stop before all iterations are done.
    Returns:
        {"fps", "latency_ms": {"p50", "p95", "p99", "mean"}, "size", "batch", "warmup", "iterations", "precision", …}.
    """
    import paddle

    from stdc.machine import devices

    shape = (section["batch"], 3, section["height"], section["width"])
    # Noise, not zeros: some processors multiply zeros faster.
    image = paddle.to_tensor(np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32))

    def call() -> None:
        with paddle.no_grad():
            model(image).argmax(axis=1)
        devices.synchronize(device_kind)

    warmup = len(timed(call, section["warmup"], clock, WARMUP_LIMIT_S))
    seconds = timed(call, section["iterations"], clock, limit_s)
    return {
        "fps": round(section["batch"] * len(seconds) / math.fsum(seconds), 4),
        "latency_ms": latency(seconds),
        "size": [section["height"], section["width"]],
        "batch": section["batch"],
        "warmup": warmup,
        "iterations": len(seconds),
        "precision": "float32",
        "backend": devices.backend(device_kind),
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


def training_speed(history: Sequence[Mapping[str, Any]], devices: int) -> Dict[str, Any]:
    """Training images a second, median over the run's intervals, and the share of it spent waiting for data.

    The first interval is left out where there are others: it holds the start-up.
    """
    events = [event for event in history if "images_per_s" in event]
    events = events[1:] if len(events) > 1 else events
    if not events:
        return {"images_per_s": None, "images_per_s_per_device": None, "devices": devices, "reader_wait_share": None}
    images = float(np.median([event["images_per_s"] for event in events]))
    return {
        "images_per_s": round(images, 4),
        "images_per_s_per_device": round(images / devices, 4),
        "devices": devices,
        "reader_wait_share": round(float(np.median([event["reader_wait_share"] for event in events])), 4),
        "intervals": len(events),
    }
