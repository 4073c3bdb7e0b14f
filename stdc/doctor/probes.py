"""Trials that may crash, hang or run out of memory; each runs in a process of its own and leaves its answer in a file.

The answer is written again after each step, so that what was learned before a crash is kept.
"""

from __future__ import annotations

import importlib
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from stdc import files, recipe
from stdc.doctor import software_checks
from stdc.doctor.plan import Plan
from stdc.machine import devices, ranks, watcher
from stdc.machine.heartbeat import Limits
from stdc.presets import PRESETS
from stdc.units import bytes_text, size_text

#: Two images are enough to see that the path from file to figure works, and small ones to see it fast.
_TRIAL_SIZE = (256, 512)
#: A training step of more pixels takes too long on the CPU.
_CPU_STEP_PIXELS = 1 << 20
#: Peak of an evaluation on the CPU, bytes per pixel; measured 370 with both networks.
CPU_BYTES_PER_PIXEL = 500

Write = Callable[[Dict[str, Any]], None]


def run(name: str, plan: Plan, answer: Path, argv: List[str]) -> None:
    """Run one probe: "imports", "network" or "ranks".

    Args:
        answer: gets the answer as JSON.
        argv: program and arguments that start the same probe; ranks are started with them.
    """
    if name == "imports":
        files.write_json(answer, _imports(plan))
    elif name == "network":
        _network(plan, lambda values: files.write_json(answer, values))
    elif name == "ranks":
        _ranks(plan, answer, argv)
    else:
        raise ValueError(f"no probe {name!r}")


def _imports(plan: Plan) -> Dict[str, Any]:
    """Versions of all packages, and what Paddle sees."""
    packages: Dict[str, Dict[str, str]] = {}
    for name in software_checks.package_names():
        try:
            module = importlib.import_module(name)
            packages[name] = {"version": str(getattr(module, "__version__", "present"))}
        except Exception as error:
            # Broken binaries raise all kinds of errors, not only ImportError.
            packages[name] = {"error": _one_line(error)}
    found: Dict[str, Any] = {"packages": packages, "paddle": {}, "visible": None}
    try:
        devices.prepare(plan.device, plan.threads)
        import paddle

        cuda = str(paddle.version.cuda()) if paddle.is_compiled_with_cuda() else None
        ask_types: Callable[[], List[str]] = getattr(paddle.device, "get_all_custom_device_type", list)
        custom = ask_types() or []
        found["paddle"] = {"version": paddle.__version__, "cuda": cuda, "custom": sorted(custom)}
        found["visible"] = devices.count(plan.device)
        found["capabilities"] = devices.capabilities(plan.device)
    except Exception as error:
        if "version" not in found["paddle"]:
            found["paddle"] = {"error": _one_line(error)}
    return found


def _network(plan: Plan, write: Write) -> None:
    """Evaluation of two images, then the run's own sizes: evaluation, training step."""
    devices.prepare(plan.device, plan.threads, plan.kernel_flags)
    import paddle

    from stdc.nn.segmentor import build_segmentor

    devices.select(plan.device)
    paddle.seed(0)
    answer: Dict[str, Any] = {}
    model = build_segmentor(plan.backbone)
    answer["evaluation"] = _evaluate_two(model, plan)
    write(answer)
    answer["memory"] = _measure(plan, lambda: _evaluate_once(model, plan), _evaluation_too_large(plan))
    answer["memory"]["what"] = _evaluation_text(plan)
    write(answer)
    pixels = plan.device_batch * plan.crop[0] * plan.crop[1]
    too_slow = ""
    if plan.device == "cpu" and pixels > _CPU_STEP_PIXELS:
        too_slow = f"{plan.device_batch} crops of {size_text(plan.crop)} take minutes on the CPU"
    answer["step"] = _measure(plan, lambda: _train_once(model, plan), too_slow)
    answer["step"]["what"] = f"step of {plan.device_batch} crops of {size_text(plan.crop)}"
    write(answer)


def _evaluate_two(model: Any, plan: Plan) -> Dict[str, Any]:
    """From two files to a confusion matrix; beside a device's logits those of the CPU."""
    import cv2
    import numpy as np
    import paddle

    from stdc.data.dataset import EvalDataset
    from stdc.data.entry import Entry
    from stdc.evaluation.evaluate import evaluate
    from stdc.prediction.protocols import FULL_SIZE

    height, width = (min(length, trial) for length, trial in zip(plan.eval_size, _TRIAL_SIZE))
    generator = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as name:
        entries = []
        for index in range(2):
            image, label = Path(name) / f"{index}.png", Path(name) / f"{index}_label.png"
            cv2.imwrite(str(image), generator.randint(0, 256, (height, width, 3), np.uint8))
            cv2.imwrite(str(label), generator.randint(0, 19, (height, width), np.uint8))
            entries.append(Entry(f"{index}", image, label))
        dataset = EvalDataset(entries, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        started = time.monotonic()
        (counts,) = evaluate(model, dataset, [FULL_SIZE])
        seconds = time.monotonic() - started
        pixels = dataset[0][0]
    model.eval()
    logits = _logits(model, pixels)
    difference = None
    if plan.device != "cpu":
        arrays = {key: value.numpy() for key, value in model.state_dict().items()}
        paddle.set_device("cpu")
        from stdc.nn.segmentor import build_segmentor

        twin = build_segmentor(plan.backbone)
        twin.set_state_dict(arrays)
        twin.eval()
        difference = float(np.abs(_logits(twin, pixels) - logits).max())
        devices.select(plan.device)
    return {
        "pixels": int(counts.confusion.sum()),
        "expected": 2 * height * width,
        "finite": bool(np.isfinite(logits).all()),
        "difference": difference if difference is None or np.isfinite(difference) else sys.float_info.max,
        "seconds": seconds,
    }


def _logits(model: Any, pixels: Any) -> Any:
    import paddle

    with paddle.no_grad():
        return model(paddle.to_tensor(pixels[None])).numpy()


def _evaluate_once(model: Any, plan: Plan) -> None:
    import numpy as np

    from stdc.prediction.predict import predict
    from stdc.prediction.protocols import Protocol

    model.eval()
    predict(model, np.zeros((3, *plan.eval_size), np.float32), [Protocol("probe", (plan.scale,), plan.flip)])


def _train_once(model: Any, plan: Plan) -> None:
    """Forward, losses, backward, update: what training holds in memory at its peak."""
    import paddle

    from stdc.nn.losses import segmentation_loss

    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())
    images = paddle.zeros([plan.device_batch, 3, *plan.crop])
    labels = paddle.zeros([plan.device_batch, *plan.crop], "int64")
    losses = recipe.part_of(recipe.Losses, PRESETS["paddleseg"])
    for _ in range(2):
        # The second step has the momentum too.
        loss, _ = segmentation_loss(model(images), labels, losses)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    float(loss)


def _evaluation_too_large(plan: Plan) -> str:
    """Why a whole image is not tried on this CPU; empty: it is."""
    from stdc.doctor.facts import memory_available

    pixels = plan.eval_size[0] * plan.eval_size[1] * plan.scale**2
    needed, available = pixels * CPU_BYTES_PER_PIXEL, memory_available()
    if plan.device == "cpu" and needed > 0.8 * available:
        return f"{_evaluation_text(plan)} needs about {bytes_text(needed)}, {bytes_text(available)} are available"
    return ""


def _evaluation_text(plan: Plan) -> str:
    scale = "" if plan.scale == 1 else f" at scale {plan.scale:g}"
    return f"image of {size_text(plan.eval_size)}{scale}"


def _measure(plan: Plan, trial: Callable[[], None], skip: str) -> Dict[str, Any]:
    """Time and peak memory of a trial; an error is an answer."""
    if skip:
        return {"skipped": skip}
    started = time.monotonic()
    try:
        trial()
        devices.synchronize(plan.device)
    except Exception as error:
        return {"error": _one_line(error)}
    peak, total = _peak_memory(plan.device)
    return {"seconds": time.monotonic() - started, "peak": peak, "total": total}


def _peak_memory(device: str) -> Tuple[Optional[int], Optional[int]]:
    """(peak so far, whole) bytes; (None, None) where the device does not tell."""
    import paddle

    from stdc.doctor.facts import memory_available

    if device == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return peak, memory_available() + peak
    if device == "gpu":
        properties = paddle.device.cuda.get_device_properties(0)
        # Reserved, not allocated: what the allocator holds is what others cannot have.
        return int(paddle.device.cuda.max_memory_reserved()), int(properties.total_memory)
    # Of plug-ins, Paddle 3 keeps this account itself; the whole is the plug-in's to tell.
    try:
        return int(paddle.device.max_memory_reserved()), int(
            paddle.device.get_device_properties(f"{device}:0").total_memory
        ) or None
    except Exception:
        return None, None


def _ranks(plan: Plan, answer: Path, argv: List[str]) -> None:
    if not ranks.in_rank():
        with tempfile.TemporaryDirectory() as folder:
            watcher.run_ranks(
                argv,
                device=plan.device,
                world_size=max(plan.devices, 2),
                folder=Path(folder) / "ranks",
                limits=Limits(),
                log=_to_stderr,
            )
        return
    with ranks.reporting_rank():
        values = _all_reduce(plan)
        if values["rank"] == 0:
            files.write_json(answer, values)


def _all_reduce(plan: Plan) -> Dict[str, Any]:
    """Sum as many numbers as a training step exchanges."""
    devices.prepare(plan.device, 1)
    import paddle

    devices.join_ranks(plan.device)
    rank, world_size = ranks.rank_and_world()
    numbers = plan.weights_bytes() // 4
    seconds = 0.0
    for _ in range(2):
        # The first opens the connections.
        values = paddle.full([numbers], float(rank + 1))
        devices.synchronize(plan.device)
        started = time.monotonic()
        paddle.distributed.all_reduce(values)
        devices.synchronize(plan.device)
        seconds = time.monotonic() - started
    expected = world_size * (world_size + 1) / 2
    correct = float(values.min()) == expected and float(values.max()) == expected
    return {
        "rank": rank,
        "ranks": world_size,
        "bytes": numbers * 4,
        "seconds": seconds,
        "correct": correct,
        "sync_batch_norm": _sync_batch_norm(plan.device),
    }


def _sync_batch_norm(device: str) -> str:
    """What synchronizes batch norm in a training, as this rank finds it."""
    if not devices.has_sync_batch_norm(device):
        return "by collectives of ours, for want of a kernel"
    import paddle

    from stdc.nn.sync_batch_norm import find_difference

    difference = find_difference(paddle.nn.SyncBatchNorm)
    return (
        f"by collectives of ours, since Paddle's kernel is wrong ({difference})" if difference else "by Paddle's kernel"
    )


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _one_line(error: BaseException) -> str:
    """The telling line of an error; Paddle's own are pages long and end with what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in reversed(lines) if "Error" in line or "error" in line), lines[-1] if lines else "")
    return f"{type(error).__name__}: {telling}"[:400]
