"""A training step beside PaddleSeg 2.7: STDC1-Seg, crops of 1024x512, two images, one thread, equal weights and data.

MKL_DEBUG_CPU_TYPE is read when Paddle is loaded, so each setting is a process of its own.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent), str(REPOSITORY / "tests" / "parity" / "network")]

import numpy as np
from rows import AMD_VARIABLE, Bench, Pair, Row, in_rounds, in_turns, run_json


def step(bench: Bench) -> Iterator[Row]:
    """Both with MKL's fast way on AMD processors, both without it, and ours with it beside PaddleSeg as shipped."""
    found = {}
    # What must be reached is asked of crops of the published size.
    for kind, must, aim in (("set", None, None) if bench.quick else ("set", 1.4, 2.0), ("unset", None, None)):
        found[kind] = _measure(bench, amd=kind == "set")
        work = f"training step, {AMD_VARIABLE} {kind}"
        yield _row(work, found[kind]["step"], bench, note="the kernels of the published code")
        yield _row(f"{work}, train.upsampling: products", found[kind]["products"], bench, must, aim, _PRODUCTS)
        yield _row(f"of it the losses, forward, {AMD_VARIABLE} {kind}", found[kind]["losses"], bench)
    if bench.peer:
        shipped = Pair(tuple(found["set"]["products"][0]), tuple(found["unset"]["step"][1]))
        work = f"training step as docs/scaling.md advises ({AMD_VARIABLE}=5, products) and as PaddleSeg is shipped"
        yield Row(
            work,
            "s of CPU",
            shipped,
            must=None if bench.quick else 1.9,
            aim=None if bench.quick else 2.6,
            note="two processes, one after the other",
        )


PARTS = (step,)

_PRODUCTS = "equal but for rounding, see tests/unit/test_nn_segmentor.py"


def _row(work: str, pair: List[List[float]], bench: Bench, must: Any = None, aim: Any = None, note: str = "") -> Row:
    if not bench.peer:
        return Row(work, "s of CPU", ours=float(np.median(pair[0])), note=note)
    return Row(work, "s of CPU", Pair(tuple(pair[0]), tuple(pair[1])), must=must, aim=aim, note=note)


def _measure(bench: Bench, amd: bool) -> Dict[str, List[List[float]]]:
    words = ["--rounds", 1 if bench.quick else min(bench.rounds, 4), "--width", 512 if bench.quick else 1024]
    return run_json(__file__, [*words, *(["--peer"] if bench.peer else [])], threads=1, amd=amd)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    width = options.width
    import paddle

    from stdc.nn.losses import segmentation_loss
    from stdc.nn.segmentor import SegmentorOutputs, build_segmentor
    from stdc.presets import PRESETS
    from stdc.recipe import Losses, part_of

    paddle.seed(0)
    generator = np.random.RandomState(0)
    images = paddle.to_tensor(generator.standard_normal((2, 3, width // 2, width)).astype(np.float32))
    truth = paddle.to_tensor(generator.randint(0, 19, (2, width // 2, width)).astype(np.int64))
    ours, settings = build_segmentor("stdc1"), part_of(Losses, PRESETS["paddleseg"])
    ours.train()

    def our_step() -> None:
        segmentation_loss(ours(images), truth, settings)[0].backward()
        ours.clear_gradients()

    def our_step_by_products() -> None:
        ours.upsample_by_products = True
        our_step()
        ours.upsample_by_products = False

    fixed = SegmentorOutputs(*(output.detach() for output in ours(images)))
    for output in fixed:
        output.stop_gradient = False

    def our_losses() -> None:
        segmentation_loss(fixed, truth, settings)

    their_step: Callable[[], Any] = lambda: None  # noqa: E731
    their_losses: Callable[[], Any] = lambda: None  # noqa: E731
    if options.peer:
        import peer

        theirs, losses = peer.build("stdc1"), peer.losses()
        theirs.train()
        their_outputs = [output.detach() for output in theirs(images)]
        for output in their_outputs:
            output.stop_gradient = False

        def their_step() -> None:
            sum(peer.step_losses(theirs(images), truth, losses)).backward()
            theirs.clear_gradients()

        def their_losses() -> None:
            peer.step_losses(their_outputs, truth, losses)

    # The peer's step is timed once per round, for both rows.
    step, products, peer_step = in_rounds([our_step, our_step_by_products, their_step], options.rounds)
    losses = in_turns(our_losses, their_losses, options.rounds, scale=1.0)
    print(
        json.dumps({"step": [step, peer_step], "products": [products, peer_step], "losses": [losses.ours, losses.peer]})
    )


if __name__ == "__main__":
    main()
