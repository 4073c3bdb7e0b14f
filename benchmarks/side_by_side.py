"""Speed beside PaddleSeg 2.7: both sides run alternately in one process, so that a busy machine slows both.

    make bench            # installs the peer beside; some minutes on 2 cores

Each line gives the median and the range of the ratio of two neighboring runs, the peer's time over ours: above 1, stdc
is faster. On AMD processors both profit from MKL_DEBUG_CPU_TYPE=5: set it for both or neither; the header says which.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "parity" / "network")]

#: Size of a Cityscapes image, and of the published crop (height, width).
FULL, CROP = (1024, 2048), (512, 1024)


def in_turns(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> Dict[str, float]:
    """Median seconds of both sides and the ratio, over `rounds` pairs; one pair before them warms up."""
    pairs: List[List[float]] = []
    for number in range(rounds + 1):
        pair = []
        for run in (ours, theirs):
            started = time.perf_counter()
            run()
            pair.append(time.perf_counter() - started)
        if number:
            pairs.append(pair)
    ratios = sorted(theirs_s / ours_s for ours_s, theirs_s in pairs)
    return {
        "ours_s": round(statistics.median(pair[0] for pair in pairs), 4),
        "peer_s": round(statistics.median(pair[1] for pair in pairs), 4),
        "ratio": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
    }


def loading(folder: Path, rounds: int) -> Dict[str, float]:
    """A training sample from PNG files of full size to a normalized crop."""
    import cv2
    from paddleseg.transforms import transforms as peer

    from stdc import recipe
    from stdc.data.dataset import TrainDataset
    from stdc.data.entry import Entry
    from stdc.data.synthetic.writer import Frame, write_frame

    section = {"seed": 0, "height": FULL[0], "width": FULL[1], "train": 2, "val": 2, "test": 0}
    paths = sorted(write_frame(Frame("train", 0, 2), section, folder))
    image = next(folder / path for path in paths if path.endswith("leftImg8bit.png"))
    label = folder / "train_ids.png"
    cv2.imwrite(str(label), np.random.RandomState(0).randint(0, 19, FULL).astype(np.uint8))
    resolved = recipe.resolve(
        {"preset": "paddleseg", "iterations": 1, "global_batch": 1, "crop_height": CROP[0], "crop_width": CROP[1]}
    )
    dataset = TrainDataset([Entry("a_000000_000000", image, label)], resolved.augmentation, 0)
    chain = peer.Compose(
        [
            peer.ResizeStepScaling(0.5, 2.0, 0.25),
            peer.RandomPaddingCrop(crop_size=[CROP[1], CROP[0]]),
            peer.RandomHorizontalFlip(),
            peer.RandomDistort(brightness_range=0.4, contrast_range=0.4, saturation_range=0.4),
            peer.Normalize(),
        ]
    )
    keys = iter(range(10_000))

    def theirs() -> None:
        chain({"img": str(image), "label": str(label), "gt_fields": ["label"], "trans_info": []})

    random.seed(0)
    np.random.seed(0)
    # Scales are drawn anew each time on both sides, so one pair alone says little: many rounds.
    return in_turns(lambda: dataset[next(keys)], theirs, 4 * rounds)


def ohem(rounds: int) -> Dict[str, float]:
    """The mining loss and its gradient on two crops; both keep the pixels below the threshold."""
    import paddle
    import peer

    from stdc.nn.losses import ohem_cross_entropy

    generator = np.random.RandomState(0)
    logits = paddle.to_tensor(generator.standard_normal((2, 19, *CROP)).astype(np.float32))
    logits.stop_gradient = False
    truth = paddle.to_tensor(generator.randint(0, 19, (2, *CROP)).astype(np.int64))
    loss = peer.ohem()
    return in_turns(
        lambda: ohem_cross_entropy(logits, truth, 0.7, 10000).backward(), lambda: loss(logits, truth).backward(), rounds
    )


def step(rounds: int) -> Dict[str, float]:
    """Forward, losses and backward of STDC1-Seg on two crops of half the published size; equal weights."""
    import paddle
    import peer

    from stdc.nn.losses import segmentation_loss
    from stdc.nn.segmentor import build_segmentor
    from stdc.presets import PRESETS
    from stdc.recipe import Losses, part_of

    height, width = CROP[0] // 2, CROP[1] // 2
    generator = np.random.RandomState(0)
    images = paddle.to_tensor(generator.standard_normal((2, 3, height, width)).astype(np.float32))
    truth = paddle.to_tensor(generator.randint(0, 19, (2, height, width)).astype(np.int64))
    ours, theirs, losses = build_segmentor("stdc1"), peer.build("stdc1"), peer.losses()
    ours.train()
    theirs.train()

    def our_step() -> None:
        segmentation_loss(ours(images), truth, part_of(Losses, PRESETS["paddleseg"]))[0].backward()
        ours.clear_gradients()

    def their_step() -> None:
        sum(peer.step_losses(theirs(images), truth, losses)).backward()
        theirs.clear_gradients()

    return in_turns(our_step, their_step, rounds)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5, metavar="N", help="pairs of runs per line")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = arguments.parse_args()
    import paddle

    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "load one 2048x1024 sample": loading(Path(folder), options.rounds),
            "mining loss, 2 x 1024x512": ohem(options.rounds),
            "training step, 2 x 512x256": step(options.rounds),
        }
    setting = os.environ.get("MKL_DEBUG_CPU_TYPE", "not set")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(f"paddle {paddle.__version__}, OMP_NUM_THREADS {threads}, MKL_DEBUG_CPU_TYPE {setting}")
    print(f"{'':30}{'ours s':>10}{'peer s':>10}{'ratio':>8}  range")
    for name, found in figures.items():
        line = f"{name:30}{found['ours_s']:10.4f}{found['peer_s']:10.4f}{found['ratio']:8.2f}"
        print(f"{line}  {found['lowest']:.2f} to {found['highest']:.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
