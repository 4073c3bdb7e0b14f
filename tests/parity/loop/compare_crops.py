# ruff: noqa: E402
"""Whether the crops of both sides have one distribution: moments of many of them, in standard errors of the difference.

    python tests/parity/loop/compare_crops.py --output results/parity-loop --epochs 10

Reads what run_loop.py prepared in the folder. Given equal draws the crops are equal bit for bit (`../transforms`); here
each side draws by itself. Of fourteen independent distances, one beyond 3 is expected in some 26 comparisons.
`--weights` adds how hard the crops are for a trained network: its cross entropy on each.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import numpy as np
import paddle
import peer_loop
import yaml
from loop_results import standardized_gap
from our_crops import OurCrops
from paddleseg.cvlibs import Config

from stdc.data.labels import IGNORE, TRAIN_NAMES
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_segmentor
from stdc.weights.array_files import read_pdparams

#: Classes that are looked at one by one: the commonest of street scenes.
CLASSES = ("road", "sidewalk", "building", "vegetation", "sky", "car")


#: The mean loss of a network on a crop.
Hardness = Optional[Callable[[np.ndarray, np.ndarray], float]]


def hardness(weights: Path) -> Callable[[np.ndarray, np.ndarray], float]:
    """The cross entropy of a trained network, over the labeled pixels of a crop."""
    model = build_segmentor("stdc1")
    load_segmentor(model, read_pdparams(weights), str(weights))
    model.eval()

    def loss(image: np.ndarray, label: np.ndarray) -> float:
        truth = paddle.to_tensor(label[None].astype(np.int64))
        with paddle.no_grad():
            logits = model(paddle.to_tensor(image[None]))
            return float(paddle.nn.functional.cross_entropy(logits, truth, axis=1, ignore_index=IGNORE))

    return loss


def moments(image: np.ndarray, label: np.ndarray, loss: Hardness = None) -> Dict[str, float]:
    """Of one crop: (3, H, W), normalized, and train ids (H, W)."""
    found = {f"mean of {color}": float(image[c].mean()) for c, color in enumerate(("red", "green", "blue"))}
    found["deviation within the crop"] = float(image.std())
    found["difference of neighbors"] = float(np.abs(np.diff(image, axis=2)).mean())
    found["saturation"] = float((image.max(0) - image.min(0)).mean())
    columns = np.arange(label.shape[1])
    road = label == TRAIN_NAMES.index("road")
    # Left and right are told apart by where the road is; mirroring half of the crops makes it the middle.
    found["column of the road"] = float((road * columns).sum() / max(road.sum(), 1) / label.shape[1])
    found["void"] = float((label == IGNORE).mean())
    for name in CLASSES:
        found[name] = float((label == TRAIN_NAMES.index(name)).mean())
    if loss is not None and found["void"] < 1:
        found["cross entropy of a network"] = loss(image, label)
    return found


def our_crops(shared: Path, epochs: int, loss: Hardness) -> List[Dict[str, float]]:
    crops = OurCrops(shared, seed=0)
    return [moments(*crops[key], loss) for key in range(epochs * len(crops))]


def peer_crops(shared: Path, epochs: int, loss: Hardness) -> List[Dict[str, float]]:
    job: Dict[str, Any] = json.loads((shared / "job.json").read_text(encoding="utf-8"))
    path = shared / "crops.yml"
    path.write_text(yaml.safe_dump(peer_loop.recipe(job, str(shared / "peer_dataset"))), encoding="utf-8")
    np.random.seed(0)
    random.seed(0)
    crops = Config(str(path)).train_dataset
    return [
        moments(sample["img"], sample["label"], loss)
        for sample in (crops[index] for _ in range(epochs) for index in range(len(crops)))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of run_loop.py")
    parser.add_argument("--epochs", type=int, default=10, help="crops of each image (default: 10)")
    parser.add_argument("--weights", type=Path, help="of a trained network (.pdparams)")
    options = parser.parse_args()
    loss = hardness(options.weights) if options.weights else None
    shared = options.output.resolve() / "shared"
    ours, theirs = our_crops(shared, options.epochs, loss), peer_crops(shared, options.epochs, loss)
    print(
        f"{len(ours)} crops of each side\n\n| of a crop | ours | PaddleSeg | standard errors apart |\n|---|---|---|---|"
    )
    for name in ours[0]:
        mine, others = ([one[name] for one in side if name in one] for side in (ours, theirs))
        gap = standardized_gap(mine, others)
        print(f"| {name} | {np.mean(mine):.4f} | {np.mean(others):.4f} | {gap:+.1f} |")


if __name__ == "__main__":
    main()
