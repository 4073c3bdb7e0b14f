# ruff: noqa: E402
"""One training by PaddleSeg's own loop: its dataset, transforms, shuffling, loader, schedule, optimizer and losses.

    python tests/parity/loop/peer_loop.py --job job.json --kernel drawn --seed 0 --output folder

Leaves the weights as PaddleSeg saves them (`weights/iter_<n>/model.pdparams`) and `losses.json`. Needs the environment
of the peers. `--kernel authors` sets the fusion kernel of the detail loss to 0.6, 0.3, 0.1; `--kernel drawn` leaves it
as the process draws it. The other changes without which PaddleSeg 2.7 does not run stand in `network/peer.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "network"))

import numpy as np
import paddle
import peer
import yaml
from paddleseg.core import train
from paddleseg.cvlibs import Config, manager

#: Steps whose losses become one mean, as the history of the other side has it.
LOG_INTERVAL = 10
LOSS_NAMES = ("main", "auxiliary 1", "auxiliary 2", "detail")


def recipe(job: Dict[str, Any], dataset: str) -> Dict[str, Any]:
    """PaddleSeg's `stdc1_seg_cityscapes_1024x512_80k`, from scratch, with the job's steps, batch and crop."""
    ohem = {"type": "OhemCrossEntropyLoss", "min_kept": 10000}
    return {
        "batch_size": job["batch"],
        "iters": job["iterations"],
        "train_dataset": {
            "type": "Cityscapes",
            "dataset_root": dataset,
            "mode": "train",
            "transforms": [
                {
                    "type": "ResizeStepScaling",
                    "min_scale_factor": 0.5,
                    "max_scale_factor": 2.0,
                    "scale_step_size": 0.25,
                },
                {"type": "RandomPaddingCrop", "crop_size": [job["crop_width"], job["crop_height"]]},
                {"type": "RandomHorizontalFlip"},
                {"type": "RandomDistort", "brightness_range": 0.4, "contrast_range": 0.4, "saturation_range": 0.4},
                {"type": "Normalize"},
            ],
        },
        "optimizer": {"type": "sgd", "momentum": 0.9, "weight_decay": 4.0e-5},
        "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.01, "end_lr": 0, "power": 0.9},
        "loss": {
            "types": [dict(ohem), dict(ohem), dict(ohem), {"type": "DetailAggregateLoss"}],
            "coef": [1, 1, 1, 1],
        },
        "model": {"type": "STDCSeg", "num_classes": 19, "backbone": {"type": "STDC1"}},
    }


class Watched:
    """A loss that keeps its values."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self.values: List[float] = []

    def __call__(self, logits: Any, labels: Any) -> Any:
        value = self.loss(logits, labels)
        self.values.append(float(value))
        return value


def reorder(seed: int) -> None:
    """Let the seed decide the order of the images too; PaddleSeg's loop leaves it to the number of the epoch alone."""
    make = paddle.io.DistributedBatchSampler.__init__

    def made(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        # The sampler shuffles with the number of the epoch and counts up from there.
        self.epoch = 1000 * (seed + 1)

    paddle.io.DistributedBatchSampler.__init__ = made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="iterations, batch, crop size (JSON)")
    parser.add_argument("--dataset", required=True, help="folder with leftImg8bit/ and gtFine/*_labelTrainIds.png")
    parser.add_argument("--kernel", choices=("drawn", "authors"), required=True, help="of the detail loss")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--reorder", action="store_true", help="another order of the images for each seed")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    options = parser.parse_args()
    job = json.loads(options.job.read_text(encoding="utf-8"))
    options.output.mkdir(parents=True, exist_ok=True)
    # As PaddleSeg's train.py does with --seed.
    paddle.seed(options.seed)
    np.random.seed(options.seed)
    random.seed(options.seed)
    paddle.set_device("cpu")
    manager.LOSSES.components_dict["OhemCrossEntropyLoss"] = peer.ohem_class()
    path = options.output / "recipe.yml"
    path.write_text(yaml.safe_dump(recipe(job, options.dataset)), encoding="utf-8")
    config = Config(str(path))
    dataset, losses = config.train_dataset, config.loss
    if options.reorder:
        reorder(options.seed)
    if len(dataset) != job["train_images"]:
        sys.exit(f"peer_loop.py: PaddleSeg's dataset has {len(dataset)} images, the lists {job['train_images']}")
    detail = losses["types"][3]
    if options.kernel == "authors":
        peer.set_fusion_weights(detail)
    kernel = detail.fuse_kernel.numpy().reshape(-1).tolist()
    watched = [Watched(loss) for loss in losses["types"]]
    train(
        config.model,
        dataset,
        optimizer=config.optimizer,
        save_dir=str(options.output / "weights"),
        iters=config.iters,
        batch_size=config.batch_size,
        save_interval=config.iters,
        # Its lines of progress take the first element of a scalar, which Paddle 3 refuses; `Watched` keeps the losses.
        log_iters=config.iters + 1,
        num_workers=0,
        losses={"types": watched, "coef": losses["coef"]},
    )
    kept = [
        {
            "iteration": end,
            **{name: float(np.mean(loss.values[end - LOG_INTERVAL : end])) for name, loss in zip(LOSS_NAMES, watched)},
        }
        for end in range(LOG_INTERVAL, config.iters + 1, LOG_INTERVAL)
    ]
    text = json.dumps({"kernel": kernel, "losses": kept}, indent=1)
    (options.output / "losses.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
