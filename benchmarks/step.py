"""A training step beside PaddleSeg 2.7: STDC1-Seg, crops of 1024x512, two images, one thread, equal weights and data.

On AMD processors MKL_DEBUG_CPU_TYPE=5 makes Paddle's MKL up to four times faster, for both sides; it must be set before
Paddle is loaded, so each setting is a process of its own.
"""

# ruff: noqa: E402
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent), str(REPOSITORY / "tests" / "parity" / "network")]

import numpy as np
from rows import Bench, Pair, Row, in_turns

_VARIABLE = "MKL_DEBUG_CPU_TYPE"


def rows(bench: Bench) -> List[Row]:
    """The rows of this module."""
    found = {kind: _measure(kind, bench) for kind in ("set", "unset")}
    made = []
    for kind, must, aim in (("set", 1.4, 2.0), ("unset", None, None)):
        made.append(_row(f"training step, {_VARIABLE} {kind} for both", found[kind]["step"], bench, must, aim))
        made.append(_row(f"of it the losses, forward, {_VARIABLE} {kind}", found[kind]["losses"], bench, None, None))
    if bench.peer:
        shipped = Pair(tuple(found["set"]["step"][0]), tuple(found["unset"]["step"][1]))
        work = "training step as stdc runs it (variable set) and as PaddleSeg is shipped (unset)"
        made.append(Row(work, "CPU s", shipped, must=1.9, aim=2.6, note="two processes, one after the other"))
    return made


def _row(work: str, pair: List[List[float]], bench: Bench, must: Any, aim: Any) -> Row:
    if not bench.peer:
        return Row(work, "CPU s", ours=float(np.median(pair[0])))
    return Row(work, "CPU s", Pair(tuple(pair[0]), tuple(pair[1])), must=must, aim=aim)


def _measure(kind: str, bench: Bench) -> Dict[str, List[List[float]]]:
    environment = {name: value for name, value in os.environ.items() if name != _VARIABLE}
    if kind == "set":
        environment[_VARIABLE] = "5"
    rounds = 1 if bench.quick else max(2, bench.rounds // 2)
    command = [sys.executable, __file__, str(rounds), "512" if bench.quick else "1024", str(int(bench.peer))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=1200)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    rounds, width, peer_is_there = (int(word) for word in sys.argv[1:4])
    import paddle

    from stdc.nn.losses import segmentation_loss
    from stdc.nn.segmentor import build_segmentor
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

    outputs = ours(images)
    fixed = [output.detach() for output in outputs]
    for output in fixed:
        output.stop_gradient = False

    def our_losses() -> None:
        segmentation_loss(type(outputs)(*fixed) if hasattr(outputs, "_fields") else fixed, truth, settings)

    their_step: Callable[[], Any] = lambda: None  # noqa: E731
    their_losses: Callable[[], Any] = lambda: None  # noqa: E731
    if peer_is_there:
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

    pairs = {
        "step": in_turns(our_step, their_step, rounds, scale=1.0),
        "losses": in_turns(our_losses, their_losses, rounds, scale=1.0),
    }
    print(json.dumps({name: [list(pair.ours), list(pair.peer)] for name, pair in pairs.items()}))


if __name__ == "__main__":
    main()
