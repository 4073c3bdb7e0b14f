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


def throughput(options: argparse.Namespace) -> Dict[str, Any]:
    """Training images per second on one batch that stays on the device, and its peak of memory."""
    import paddle

    from stdc.nn.segmentor import build_segmentor
    from stdc.recipe import resolve
    from stdc.training.step import Step

    devices.select(options.device)
    train = {"preset": "paddleseg", "iterations": 1000, "global_batch": options.batch, "crop_height": options.height,
             "crop_width": options.width}  # fmt: skip
    model = build_segmentor("stdc1")
    model.train()
    step = Step(model, resolve(train), seed=0, micro_batch=options.batch)
    images, labels = (paddle.to_tensor(value) for value in batch_of(options))
    for number in range(max(options.steps // 3, 1)):
        step(images, labels, number, False).read()
    started = time.monotonic()
    for number in range(options.steps):
        pending = step(images, labels, number, False)
    pending.read()
    devices.synchronize(options.device)
    seconds = time.monotonic() - started
    answer: Dict[str, Any] = {"images_per_s": options.batch * options.steps / seconds}
    if options.device == KINDS[1]:
        properties = paddle.device.cuda.get_device_properties(0)
        answer["peak_share"] = paddle.device.cuda.max_memory_reserved() / properties.total_memory
    return answer


PARTS: Dict[str, Callable[[argparse.Namespace], Dict[str, Any]]] = {
    "gradients": gradients,
    "topk": topk,
    "batch_norm": batch_norm,
    "throughput": throughput,
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
