# ruff: noqa: E402
"""Evaluation of whole images beside PaddleSeg 2.7: the network alone, and from files to integers on two cores.

The number of threads and MKL_DEBUG_CPU_TYPE are fixed when Paddle is loaded, so each setting is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent), str(REPOSITORY / "tests" / "parity" / "network")]

from rows import AMD_VARIABLE, Bench, Pair, Row, in_turns, run_json

#: Cores that the whole evaluation may use.
_CORES = 2
_HALF = (0.5, 0.5, 0.5)
#: Width of the image whose forward pass is timed, by whether the run is quick; it is twice as wide as high.
_WIDTH = {False: 2048, True: 1024}


def forward_amd(bench: Bench) -> Iterator[Row]:
    """The network alone, where both sides have MKL's fast way on AMD processors."""
    yield from _forward(bench, amd=True)


def forward(bench: Bench) -> Iterator[Row]:
    """The network alone, both as they are shipped."""
    yield from _forward(bench, amd=False)


def _forward(bench: Bench, amd: bool) -> Iterator[Row]:
    rounds = 1 if bench.quick else min(bench.rounds, 4)
    width = _WIDTH[bench.quick]
    words = ["forward", "--rounds", rounds, "--width", width, *(["--peer"] if bench.peer else [])]
    found = run_json(__file__, words, threads=1, amd=amd)
    kind = f"{AMD_VARIABLE} {'set' if amd else 'unset'}"
    pixels = f"{found['differing']} of {width * width // 2:,} pixels"
    for backend, must, aim, equal, note in (
        ("onnxruntime", 2.5, 2.8, f"our Paddle but for {pixels}", "the same weights, batch norms folded"),
        ("paddle", None, None, "the same kernels", "the backend of every published comparison"),
    ):
        work = f"evaluation forward, STDC1, {width}x{width // 2}, backend {backend}, {kind}"
        yield Row(
            work if bench.peer else f"{work}; beside our Paddle",
            "s of CPU",
            pair=Pair(tuple(found[backend]["ours"]), tuple(found[backend]["peer"])),
            # ONNX Runtime does not look at the variable, so the harder figure is that of the peer with it. What must be
            # reached is asked of whole frames.
            must=must if amd and bench.peer and not bench.quick else None,
            aim=aim if amd and bench.peer and not bench.quick else None,
            equal=equal,
            note=f"one thread; {note}",
        )


def end_to_end(bench: Bench) -> Iterator[Row]:
    """From PNG files to integers."""
    rounds, images = (1, 1) if bench.quick else (min(bench.rounds, 3), 6)
    words = ["files", "--frames", bench.frames, "--scratch", bench.scratch, "--rounds", rounds, "--images", images]
    found = run_json(__file__, [*words, *(["--peer"] if bench.peer else [])], threads=_CORES, amd=True)
    yield Row(
        work=f"evaluation from PNG to integers, STDC1, 2048x1024, {_CORES} cores, backend onnxruntime",
        unit="s of wall time per image",
        pair=Pair(tuple(found["onnxruntime"]), tuple(found["peer"] or found["paddle"])),
        must=2.5 if bench.peer else None,
        aim=4.0 if bench.peer else None,
        equal=f"our Paddle but for {found['differing_cells']} of {found['pixels']:,} counts",
        note=("PaddleSeg with its calculate_area mended" if bench.peer else "beside our Paddle")
        + f"; {AMD_VARIABLE} set for both; our own Paddle backend {np.median(found['paddle']):.2f} s; CPU s per image: "
        + ", ".join(f"{name} {value:.2f}" for name, value in sorted(found["cpu"].items())),
    )


PARTS = (forward_amd, end_to_end, forward)


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


def _measure_forward(options: argparse.Namespace) -> Dict[str, Any]:
    """Normalized image in, train ids out; CPU seconds."""
    image = np.random.RandomState(0).uniform(-1, 1, (1, 3, options.width // 2, options.width)).astype(np.float32)
    paddle_predictor, onnx_predictor = _predictors(threads=1)

    def call(predictor: Any) -> Callable[[], np.ndarray]:
        pixels = predictor.load(image)
        return lambda: predictor.to_host(predictor.largest(predictor.logits(pixels))[0])

    ours, other = call(paddle_predictor), call(onnx_predictor)
    differing = int((ours() != other()).sum())
    theirs: Callable[[], Any] = ours
    if options.peer:
        import paddle
        import peer

        network = peer.build("stdc1")
        network.eval()
        pixels = paddle.to_tensor(image)

        def theirs() -> None:
            with paddle.no_grad():
                paddle.argmax(network(pixels)[0], axis=1, keepdim=True, dtype="int32").numpy()

    sides = {"onnxruntime": other, "paddle": ours}
    pairs = {name: in_turns(run, theirs, options.rounds, scale=1.0) for name, run in sides.items()}
    return {"differing": differing, **{name: {"ours": pair.ours, "peer": pair.peer} for name, pair in pairs.items()}}


def _measure_end_to_end(options: argparse.Namespace) -> Dict[str, Any]:
    from frames import find_frames

    from stdc.data.dataset import EvalDataset
    from stdc.evaluation.evaluate import evaluate
    from stdc.prediction.protocols import FULL_SIZE

    entries = find_frames(options.frames)[: options.images]
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
    parser.add_argument("what", choices=("forward", "files"))
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--width", type=int, default=_WIDTH[False])
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    print(json.dumps((_measure_forward if options.what == "forward" else _measure_end_to_end)(options)))
