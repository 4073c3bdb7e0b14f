"""One measurement on one device, in a process of its own; prints its figures as JSON. Started by `acceptance.py`.

python tests/devices/measure.py PART --device KIND [--batch N --height H --width W --steps N]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stdc.machine import devices
from stdc.machine.kinds import KINDS

#: Pixels of the published batch of one device: 12 crops of 1024x512.
PUBLISHED_PIXELS = 12 * 512 * 1024


def batch_of(options: argparse.Namespace) -> Any:
    """Images (N, 3, H, W), float32, and train ids (N, H, W), int64: noise, with an ignored strip."""
    import numpy as np

    random = np.random.RandomState(0)
    images = random.uniform(-1, 1, (options.batch, 3, options.height, options.width)).astype(np.float32)
    labels = random.randint(0, 19, (options.batch, options.height, options.width))
    labels[:, : options.height // 8] = 255
    return images, labels


def gradients(options: argparse.Namespace) -> Dict[str, Any]:
    """Loss and gradients of a training step on the device against the CPU's, for both presets and both mining branches.

    The error of a gradient is relative to its own norm. A bias before batch norm has a gradient of zero but for
    rounding, so norms below a thousandth of the largest are left out.
    """
    import numpy as np
    import paddle

    from stdc import recipe
    from stdc.nn.losses import segmentation_loss
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_segmentor, state_arrays
    from stdc.presets import PRESETS

    paddle.set_device("cpu")
    paddle.seed(0)
    start = state_arrays(build_segmentor("stdc1"))
    images, labels = batch_of(options)
    worst: Dict[str, float] = {"loss": 0.0, "gradient": 0.0}
    where = ""
    for preset in sorted(PRESETS):
        for min_kept in (1, labels.size):
            losses = recipe.part_of(recipe.Losses, {**PRESETS[preset], "ohem_min_kept": min_kept})
            found: List[Any] = []
            for device in ("cpu", options.device):
                paddle.set_device(device)
                model = build_segmentor("stdc1", pool_counts_padding=preset == "authors")
                load_segmentor(model, start, "the start")
                model.train()
                loss, _ = segmentation_loss(model(paddle.to_tensor(images)), paddle.to_tensor(labels), losses)
                loss.backward()
                grads = {name: value.grad.numpy() for name, value in model.named_parameters() if value.grad is not None}
                found.append((float(loss), grads))
            (cpu_loss, cpu_grads), (loss_value, grads) = found
            worst["loss"] = max(worst["loss"], abs(loss_value - cpu_loss) / abs(cpu_loss))
            norms = {name: float(np.linalg.norm(value)) for name, value in cpu_grads.items()}
            for name, norm in norms.items():
                if norm > 1e-3 * max(norms.values()):
                    error = float(np.linalg.norm(grads[name] - cpu_grads[name])) / norm
                    if error > worst["gradient"]:
                        worst["gradient"], where = error, f"{name} ({preset})"
    return {"loss_error": worst["loss"], "gradient_error": worst["gradient"], "where": where}


def topk(options: argparse.Namespace) -> Dict[str, Any]:
    """Milliseconds of the mining's `topk` over the pixels of a published batch, for the counts of both presets."""
    import numpy as np
    import paddle

    devices.select(options.device)
    values = np.random.RandomState(0).uniform(0, 5, PUBLISHED_PIXELS).astype(np.float32)
    losses = paddle.to_tensor(values)
    answer: Dict[str, Any] = {}
    for kept in (10_000, PUBLISHED_PIXELS // 16):
        first = float(paddle.topk(losses, kept)[0][-1])
        devices.synchronize(options.device)
        started = time.monotonic()
        paddle.topk(losses, kept)
        devices.synchronize(options.device)
        answer[f"top_{kept}_ms"] = 1000 * (time.monotonic() - started)
        # The k-th largest, by a sort that is not Paddle's.
        answer[f"top_{kept}_equal"] = bool(first == np.partition(values, -kept)[-kept])
    return answer


def batch_norm(options: argparse.Namespace) -> Dict[str, Any]:
    """Which variance of 12 values the running statistics take: over n (1.0 here) or over n - 1 (12/11)."""
    import numpy as np
    import paddle

    devices.select(options.device)
    values = np.random.RandomState(0).standard_normal((2, 1, 2, 3)).astype(np.float32)
    norm = paddle.nn.BatchNorm2D(1, momentum=0.9)
    norm.train()
    norm(paddle.to_tensor(values))
    taken = (float(norm._variance.numpy()[0]) - 0.9) / 0.1
    return {"variance_over_biased": taken / float(values.var())}


class Steps:
    """Training steps as the loop does them, without a loader: the same 8-bit batch, sent anew for each step."""

    def __init__(self, options: argparse.Namespace) -> None:
        import numpy as np

        from stdc.machine.sender import Sender
        from stdc.nn.segmentor import build_segmentor
        from stdc.recipe import resolve
        from stdc.training.pixels import Normalizer
        from stdc.training.step import Step

        devices.select(options.device)
        train = {"preset": "paddleseg", "iterations": 1000, "global_batch": options.batch,
                 "crop_height": options.height, "crop_width": options.width}  # fmt: skip
        model = build_segmentor("stdc1")
        model.train()
        recipe = resolve(train)
        self.step, self.send = Step(model, recipe, seed=0, micro_batch=options.batch), Sender()
        self.normalizer = Normalizer(recipe.augmentation.mean, recipe.augmentation.std, self.send)
        images, labels = batch_of(options)
        self.images = ((images + 1) * 127.5).astype(np.uint8)
        self.labels = labels.astype(np.uint8)
        self.device, self.done = options.device, 0

    def __call__(self, count: int, after_each: Callable[[], None] = lambda: None) -> float:
        """Do some steps, each read one step late; the seconds they took."""
        started, unread = time.monotonic(), None
        for _ in range(count):
            images, labels = self.normalizer(self.images), self.send(self.labels).astype("int64")
            newest = self.step(images, labels, self.done, False)
            self.done += 1
            if unread is not None:
                unread.read()
            unread = newest
            after_each()
        if unread is not None:
            unread.read()
        devices.synchronize(self.device)
        return time.monotonic() - started


def throughput(options: argparse.Namespace) -> Dict[str, Any]:
    """Training images per second without a loader, and the peak of the device's memory."""
    import paddle

    steps = Steps(options)
    steps(max(options.steps // 3, 1))
    seconds = steps(options.steps)
    answer: Dict[str, Any] = {"images_per_s": options.batch * options.steps / seconds, "copies": steps.send.kind}
    if options.device == KINDS[1]:
        properties = paddle.device.cuda.get_device_properties(0)
        answer["peak_share"] = paddle.device.cuda.max_memory_reserved() / properties.total_memory
    return answer


def profile(options: argparse.Namespace) -> Dict[str, Any]:
    """What a step asks of the device, by Paddle's profiler, and for which share of the time it has nothing to do."""
    import tempfile

    from paddle import profiler

    steps = Steps(options)
    steps(2)
    # A plug-in need not have a profiler of its own.
    targets = [profiler.ProfilerTarget.CPU] + ([profiler.ProfilerTarget.GPU] if options.device == KINDS[1] else [])
    with tempfile.TemporaryDirectory() as folder:
        watching = profiler.Profiler(targets=targets, on_trace_ready=profiler.export_chrome_tracing(folder))
        watching.start()
        steps(options.steps, watching.step)
        watching.stop()
        (trace,) = Path(folder).iterdir()
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return summary(events, options.steps)


def summary(events: List[Dict[str, Any]], steps: int) -> Dict[str, Any]:
    """Counts per step of a trace in Chrome's format; what only a device does is left out where there is none."""
    by_kind: Dict[str, List[Dict[str, Any]]] = {}
    for event in events:
        by_kind.setdefault(str(event.get("cat")), []).append(event)
    answer: Dict[str, Any] = {"operators_per_step": len(by_kind.get("Operator", [])) / steps}
    on_device = [event for kind in ("Kernel", "Memcpy", "Memset") for event in by_kind.get(kind, [])]
    if not on_device:
        return answer
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in on_device)
    busy, until = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, until))
        until = max(until, stop)
    copies = [event["name"].lower() for event in by_kind.get("Memcpy", [])]
    answer["launches_per_step"] = len(by_kind.get("Kernel", [])) / steps
    answer["copies_back_per_step"] = sum("dtoh" in name for name in copies) / steps
    answer["idle_share"] = 1.0 - busy / (until - spans[0][0])
    return answer


PARTS: Dict[str, Callable[[argparse.Namespace], Dict[str, Any]]] = {
    "gradients": gradients,
    "topk": topk,
    "batch_norm": batch_norm,
    "throughput": throughput,
    "profile": profile,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--device", choices=KINDS, required=True)
    for name, default in (("batch", 2), ("height", 64), ("width", 128), ("steps", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    options = parser.parse_args()
    devices.prepare(options.device, 1)
    devices.check_count(options.device, 1)
    print(json.dumps({**PARTS[options.part](options), "precision": devices.precision(options.device)}))


if __name__ == "__main__":
    main()
