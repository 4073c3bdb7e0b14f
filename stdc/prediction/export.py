"""A trained network as files for other programs: Paddle's inference format, and ONNX; any size of image.

What was written is loaded again by the library that will run it, and compared with the trained network on the spot.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import paddle

from stdc import files
from stdc.data.labels import TRAIN_LABELS
from stdc.errors import InputError, RunError
from stdc.nn.segmentor import Segmentor
from stdc.nn.state import state_arrays
from stdc.prediction import backends
from stdc.prediction.inference_predictor import (
    DESCRIPTION,
    PARAMETERS_SUFFIX,
    InferencePredictor,
    program_and_parameters,
)
from stdc.prediction.onnx_graph import IMAGE, LOGITS, segmentor_graph
from stdc.prediction.predict import PaddlePredictor
from stdc.progress import Log
from stdc.recipe import Network, Triple

#: Stem of the exported files.
STEM = "network"

#: Sizes (height, width) that the check computes: one of Cityscapes' halves, and one that nothing divides.
CHECKED_SIZES: Tuple[Tuple[int, int], ...] = ((512, 1024), (187, 331))
#: Largest difference of logits over the largest logit. Folded batch norms round otherwise: 4e-6 was measured.
MOST_DIFFERENCE = 1e-4
#: Share of the pixels that may get another class: only those at which two classes are as good as equal.
MOST_PIXELS = 1e-3

#: (1, 3, H, W) to logits (1, C, H, W).
Compute = Callable[[np.ndarray], np.ndarray]


class Trained(NamedTuple):
    """What is exported.

    Attributes:
        model: in evaluation mode, on the CPU.
        network: which one it is.
        mean, std: normalization that it expects, red, green and blue, on the scale 0 to 1.
        weights_sha256: of the file that its parameters come from.
    """

    model: Segmentor
    network: Network
    mean: Triple
    std: Triple
    weights_sha256: str


class Check(NamedTuple):
    """How far a file is from the trained network.

    Attributes:
        pixels, differing_pixels: of the images computed, and how many of them get another class.
        largest_difference: of logits, over the largest logit.
    """

    pixels: int
    differing_pixels: int
    largest_difference: float


def export(trained: Trained, folder: Path, threads: int, log: Log) -> Dict[str, Any]:
    """Write `network.*` and `export.json` (last) into `folder`.

    Returns:
        The content of `export.json`.
    Raises:
        RunError: a file computes something else than the trained network; nothing is left.
        InputError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file, but a folder is to be written")
    temporary = files.temporary_path(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        checks = {"paddle": _export_paddle(trained, temporary, threads)}
        if backends.has_onnxruntime():
            checks["onnx"] = _export_onnx(trained, temporary, threads)
        else:
            log("onnx and onnxruntime are not installed in this Python, so only Paddle's format is written")
        for name, check in checks.items():
            _refuse_or_tell(name, check, log)
        description = {
            **_description(trained),
            "checks": {name: check._asdict() for name, check in checks.items()},
            "files": {path.name: files.sha256_file(path) for path in sorted(temporary.iterdir())},
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name in description["files"]:
            (temporary / name).replace(folder / name)
        files.write_json(folder / DESCRIPTION, description)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return description


def compare(trained: Trained, compute: Compute, sizes: Sequence[Tuple[int, int]] = CHECKED_SIZES) -> Check:
    """Compute noise of each size both ways."""
    predictor = PaddlePredictor(trained.model)
    pixels = differing = 0
    largest = 0.0
    for size in sizes:
        image = np.random.RandomState(0).uniform(-1, 1, (1, 3, *size)).astype(np.float32)
        expected = predictor.logits(predictor.load(image)).numpy()
        found = compute(image)
        if found.shape != expected.shape:
            raise RunError(f"export: logits of shape {found.shape}, expected {expected.shape}")
        pixels += size[0] * size[1]
        differing += int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
        # What is not a number compares as false with any bound, so it would pass: it counts as infinite.
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        largest = max(largest, difference) if np.isfinite(difference) else float("inf")
    return Check(pixels, differing, largest)


def _refuse_or_tell(name: str, check: Check, log: Log) -> None:
    words = (
        f"{name}: logits differ by at most {check.largest_difference:.1e} of the largest, "
        f"the class at {check.differing_pixels} of {check.pixels} pixels"
    )
    if check.largest_difference > MOST_DIFFERENCE or check.differing_pixels > MOST_PIXELS * check.pixels:
        raise RunError(
            f"export: {words}; at most {MOST_DIFFERENCE:.0e} and {100 * MOST_PIXELS:.1f} % are accepted, "
            "so nothing is written"
        )
    log(words)


def _description(trained: Trained) -> Dict[str, Any]:
    """What a program needs to use the network, by name."""
    classes: List[Dict[str, Any]] = [
        {"train_id": label.trainId, "label_id": label.id, "name": label.name, "color": list(label.color)}
        for label in TRAIN_LABELS
    ]
    return {
        "network": f"{trained.network.backbone}-seg",
        "weights_sha256": trained.weights_sha256,
        "input": f"{IMAGE}: (N, 3, H, W) float32, red-green-blue / 255, minus mean, over std",
        "output": f"{LOGITS}: (N, {len(classes)}, H, W) float32; the largest is the train id",
        "mean": list(trained.mean),
        "std": list(trained.std),
        "classes": classes,
    }


def _export_onnx(trained: Trained, folder: Path, threads: int) -> Check:
    from stdc.prediction.onnx_predictor import OnnxPredictor

    texts = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in _description(trained).items()
    }
    graph = segmentor_graph(state_arrays(trained.model), trained.network.pool_counts_padding, texts)
    path = folder / f"{STEM}.onnx"
    files.write_bytes(path, graph.SerializeToString())
    return compare(trained, OnnxPredictor(path, threads).logits)


def _export_paddle(trained: Trained, folder: Path, threads: int) -> Check:
    specification = paddle.static.InputSpec([None, 3, None, None], "float32", IMAGE)
    paddle.jit.save(trained.model, str(folder / STEM), input_spec=[specification])
    program, parameters = program_and_parameters(folder / f"{STEM}{PARAMETERS_SUFFIX}")
    return compare(trained, InferencePredictor(program, parameters, threads).logits)
