# ruff: noqa: E402
"""PaddleSeg's own loop and our step, side by side on the same batches from the same initial weights: the same weights?

    python tests/parity/loop/same_batches.py --output results/parity-loop --seed 0 --steps 100

Reads what run_loop.py prepared in the folder. PaddleSeg's `core.train`, its network, losses, optimizer and schedule are
its own; its dataset and its sampler give our crops in our order, and the kernel of its detail loss is the authors'.
After each of its steps `stdc.training.step` does the same step on a network of ours, and losses, parameters and running
statistics of both are compared. As long as they agree the loops are one function of the batches, so two trainings can
only differ by what they draw.

Ends at the first step after which any bit differs. One kind of difference is known and expected once in some tens of
millions of pixels: PaddleSeg compares a pixel's probability with the threshold of the mining, this code its loss with
the threshold's logarithm, and a pixel within a rounding of it is kept by one of them only. That moves the mean loss by
one pixel's share; a larger difference gives exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "network"), str(HERE.parents[2])]

import numpy as np
import paddle
import peer
import peer_loop
import yaml
from our_crops import OurCrops
from paddleseg.core import train
from paddleseg.cvlibs import Config, manager

from stdc.nn.segmentor import build_segmentor
from stdc.seeds import derived_seed
from stdc.training.sampler import StepSampler
from stdc.training.step import Step

#: The mined losses among the parts of ours, in the order of PaddleSeg's heads.
_HEADS = ("ohem", "ohem8", "ohem16")
#: What one of 100,000 hard pixels can move a mean by, relatively.
_ONE_PIXEL = 1e-5


class _Done(Exception):
    """As many steps were made as were asked for."""


class _Crops(paddle.io.Dataset):  # type: ignore[misc]
    """Our training crops as PaddleSeg's loop wants them."""

    def __init__(self, crops: OurCrops) -> None:
        super().__init__()
        self.crops = crops

    def __getitem__(self, key: int) -> Dict[str, np.ndarray]:
        image, label = self.crops[key]
        return {"img": image, "label": label.astype(np.int64)}

    def __len__(self) -> int:
        return len(self.crops)


def _sampler(steps: List[List[int]]) -> type:
    """What stands in for Paddle's sampler in PaddleSeg's loop: the keys of each step."""

    class Sampler(paddle.io.BatchSampler):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            pass

        def __iter__(self) -> Iterator[List[int]]:
            return iter(steps)

        def __len__(self) -> int:
            return len(steps)

    return Sampler


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of run_loop.py")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the order, and the crops (default: 0)")
    parser.add_argument("--steps", type=int, default=100, help="how many (default: 100)")
    options = parser.parse_args()
    shared = options.output.resolve() / "shared"
    job: Dict[str, Any] = json.loads((shared / "job.json").read_text(encoding="utf-8"))
    paddle.set_device("cpu")
    manager.LOSSES.components_dict["OhemCrossEntropyLoss"] = peer.ohem_class()
    path = shared / "same_batches.yml"
    path.write_text(yaml.safe_dump(peer_loop.recipe(job, str(shared / "peer_dataset"))), encoding="utf-8")
    config = Config(str(path))
    theirs, losses = config.model, config.loss
    peer.set_fusion_weights(losses["types"][3])

    crops = OurCrops(shared, options.seed)
    sampler = StepSampler(len(crops), job["batch"], options.seed)
    paddle.io.DistributedBatchSampler = _sampler(list(sampler.steps(0, job["iterations"])))
    paddle.seed(derived_seed("weights", options.seed))
    ours = build_segmentor("stdc1")
    ours.train()
    step = Step(ours, crops.recipe, seed=options.seed, micro_batch=job["batch"])
    # Without the three heads that PaddleSeg builds and never runs.
    pairs = {name: (value, theirs.state_dict()[name]) for name, value in ours.state_dict().items()}
    for value, other in pairs.values():
        other.set_value(value.numpy())

    watched = [peer_loop.Watched(loss) for loss in losses["types"]]
    batch: List[paddle.Tensor] = []
    theirs.register_forward_pre_hook(lambda network, inputs: batch.append(inputs[0]))
    main_loss = watched[0].loss
    watched[0].loss = lambda logits, labels: batch.append(labels) or main_loss(logits, labels)
    # The loop clears the gradients once, at the end of each step.
    clear = theirs.clear_gradients
    gap = 0.0

    def end_of_step() -> None:
        nonlocal gap
        clear()
        done = len(watched[0].values)
        images, labels = batch
        batch.clear()
        parts, _ = step(images, labels, done - 1, stop=False).read()
        differing = sum(not np.array_equal(value.numpy(), other.numpy()) for value, other in pairs.values())
        if done % peer_loop.LOG_INTERVAL == 0 or differing:
            losses_of_both = f"{watched[0].values[-1]:.7f} and {parts['ohem']:.7f}"
            print(f"step {done}: main head {losses_of_both}; {differing} of {len(pairs)} arrays differ", flush=True)
        if differing:
            gap = max(abs(parts[ours] / side.values[-1] - 1) for ours, side in zip(_HEADS, watched))
        if differing or done == options.steps:
            raise _Done

    theirs.clear_gradients = end_of_step
    with contextlib.suppress(_Done):
        train(
            theirs,
            _Crops(crops),
            optimizer=config.optimizer,
            save_dir=str(options.output / "same_batches"),
            iters=job["iterations"],
            batch_size=job["batch"],
            save_interval=job["iterations"],
            log_iters=job["iterations"] + 1,
            num_workers=0,
            losses={"types": watched, "coef": losses["coef"]},
        )
    done = len(watched[0].values)
    if gap == 0.0:
        print(f"{len(pairs)} arrays equal bit for bit after each of {done} steps")
    else:
        print(f"equal bit for bit until step {done - 1}; then a mean loss differs by {gap:.1e} of itself")
    return 1 if gap > _ONE_PIXEL else 0


if __name__ == "__main__":
    sys.exit(main())
