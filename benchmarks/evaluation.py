# ruff: noqa: E402
"""Evaluation of whole images beside PaddleSeg 2.7: the network alone, and from files to integers on two cores."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent), str(REPOSITORY / "tests" / "parity" / "network")]

from rows import Bench, Pair, Row, in_turns

#: Cores that the whole evaluation may use.
_CORES = 2
_HALF = (0.5, 0.5, 0.5)


def rows(bench: Bench) -> List[Row]:
    return [*_forward(bench), _end_to_end(bench)]


def _predictors(threads: int) -> Tuple[Any, Any]:
    """STDC1-Seg with the same weights in Paddle and in ONNX Runtime; weights that make every class win somewhere."""
    import seeded

    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_segmentor, state_arrays
    from stdc.prediction.onnx_graph import segmentor_graph
    from stdc.prediction.onnx_predictor import OnnxPredictor
    from stdc.prediction.predict import PaddlePredictor

    model = build_segmentor("stdc1")
    load_segmentor(model, seeded.weights({name: tensor.shape for name, tensor in model.state_dict().items()}), "seeded")
    model.eval()
    graph = segmentor_graph(state_arrays(model), False, {})
    return PaddlePredictor(model, "cpu"), OnnxPredictor(graph.SerializeToString(), threads)


def _forward(bench: Bench) -> List[Row]:
    """Normalized image in, train ids out; CPU seconds, one thread."""
    image = np.random.RandomState(0).uniform(-1, 1, (1, 3, 1024, 2048)).astype(np.float32)
    paddle_predictor, onnx_predictor = _predictors(threads=1)

    def call(predictor: Any) -> Callable[[], np.ndarray]:
        pixels = predictor.load(image)
        return lambda: predictor.to_host(predictor.largest(predictor.logits(pixels))[0])

    ours, other = call(paddle_predictor), call(onnx_predictor)
    differing = int((ours() != other()).sum())
    if not bench.peer:
        pair = in_turns(other, ours, bench.rounds, scale=1.0)
        return [
            Row(
                work="evaluation forward, STDC1, 2048x1024, ONNX Runtime beside our Paddle",
                unit="s of CPU",
                pair=pair,
                equal=f"{differing} of {image[0, 0].size:,} pixels",
            )
        ]
    import paddle
    import peer

    network = peer.build("stdc1")
    network.eval()
    pixels = paddle.to_tensor(image)

    def theirs() -> None:
        with paddle.no_grad():
            paddle.argmax(network(pixels)[0], axis=1, keepdim=True, dtype="int32").numpy()

    return [
        Row(
            work="evaluation forward, STDC1, 2048x1024, backend onnxruntime",
            unit="s of CPU",
            pair=in_turns(other, theirs, bench.rounds, scale=1.0),
            must=2.5,
            aim=2.8,
            equal=f"our Paddle but for {differing} of {image[0, 0].size:,} pixels",
            note="one thread; the same weights, batch norms folded",
        ),
        Row(
            work="evaluation forward, STDC1, 2048x1024, backend paddle",
            unit="s of CPU",
            pair=in_turns(ours, theirs, bench.rounds, scale=1.0),
            equal="the same kernels",
            note="one thread; the backend of every published comparison",
        ),
    ]


def _end_to_end(bench: Bench) -> Row:
    """In a process of its own: the number of threads is fixed when paddle is loaded."""
    command = [sys.executable, __file__, "--frames", str(bench.frames), "--scratch", str(bench.scratch)]
    command += ["--rounds", str(1 if bench.quick else min(bench.rounds, 3)), "--images", "2" if bench.quick else "6"]
    environment = {**os.environ, **{f"{name}_NUM_THREADS": str(_CORES) for name in ("OMP", "MKL", "OPENBLAS")}}
    done = subprocess.run(
        [*command, *(["--peer"] if bench.peer else [])], env=environment, stdout=subprocess.PIPE, check=True
    )
    found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Row(
        work="evaluation from PNG to integers, STDC1, 2048x1024, 2 cores, backend onnxruntime",
        unit="s of wall per image",
        pair=Pair(tuple(found["onnxruntime"]), tuple(found["peer"] or found["paddle"])),
        must=2.5 if bench.peer else None,
        aim=4.0 if bench.peer else None,
        equal=f"our Paddle but for {found['differing_cells']} of {found['pixels']:,} counts",
        note=("PaddleSeg with its calculate_area mended" if bench.peer else "beside our Paddle")
        + f"; our own Paddle backend {np.median(found['paddle']):.2f} s; CPU s per image: "
        + ", ".join(f"{name} {value:.2f}" for name, value in sorted(found["cpu"].items())),
    )


def _measure_end_to_end(options: argparse.Namespace) -> Dict[str, Any]:
    from stdc.data.dataset import EvalDataset
    from stdc.data.entries import Entry
    from stdc.evaluation.evaluate import evaluate
    from stdc.prediction.protocols import FULL_SIZE

    labels = sorted(options.frames.glob("gtFine/train/*/*_gtFine_labelTrainIds.png"))[: options.images]
    entries = []
    for label in labels:
        frame = label.name.replace("_gtFine_labelTrainIds.png", "")
        image = options.frames / "leftImg8bit" / "train" / label.parent.name / f"{frame}_leftImg8bit.png"
        entries.append(Entry(frame, image, label))
    dataset = EvalDataset(entries, _HALF, _HALF)
    predictors = dict(zip(("paddle", "onnxruntime"), _predictors(_CORES)))
    confusions: Dict[str, np.ndarray] = {}

    def run(name: str) -> None:
        (counts,) = evaluate(predictors[name], dataset, [FULL_SIZE])
        confusions[name] = counts.confusion

    sides: Dict[str, Callable[[], None]] = {name: lambda name=name: run(name) for name in predictors}  # type: ignore[misc]
    if options.peer:
        sides["peer"] = _peer_evaluation(options.scratch / "peer", entries)
    seconds: Dict[str, List[float]] = {name: [] for name in sides}
    cpu_seconds: Dict[str, float] = {}
    for number in range(options.rounds + 1):
        for name, side in sides.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            side()
            if number:
                seconds[name].append((time.perf_counter() - started) / len(entries))
                cpu_seconds[name] = (time.process_time() - cpu_started) / len(entries)
    moved = int(np.abs(confusions["paddle"] - confusions["onnxruntime"]).sum())
    pixels = int(confusions["paddle"].sum())
    return {"peer": None, **seconds, "cpu": cpu_seconds, "differing_cells": moved, "pixels": pixels}


def _peer_evaluation(root: Path, entries: List[Any]) -> Callable[[], None]:
    """PaddleSeg's own validation of the same frames; it finds them in the folder of the validation split."""
    import peer
    import validation
    from paddleseg.core import val
    from paddleseg.datasets import Cityscapes
    from paddleseg.transforms import Normalize

    for entry in entries:
        for path, tree in ((entry.image, "leftImg8bit"), (entry.label, "gtFine")):
            place = root / tree / "val" / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(path)
    validation.mend_areas()
    network = peer.build("stdc1")
    dataset = Cityscapes(transforms=[Normalize()], dataset_root=str(root), mode="val")
    # Its default: images are read between two steps, in this process.
    return lambda: val.evaluate(network, dataset, num_workers=0, print_detail=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--peer", action="store_true")
    print(json.dumps(_measure_end_to_end(parser.parse_args())))
