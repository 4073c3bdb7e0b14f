# ruff: noqa: E402
"""A weights file of ours through PaddleSeg's own validation, on a folder in Cityscapes' layout; rows for run_parity.py.

    python tests/parity/network/validation.py --out rows.json

Needs the environment of the peers.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE)]

import cv2
import numpy as np
import paddle
import peer
import seeded
from paddleseg.core import val
from paddleseg.datasets import Cityscapes
from paddleseg.transforms import Normalize
from paddleseg.utils import metrics as peer_metrics

from stdc.data.dataset import EvalDataset
from stdc.data.entries import Entry
from stdc.evaluation import metrics
from stdc.evaluation.evaluate import evaluate
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_segmentor, state_arrays, with_unused_heads
from stdc.prediction.protocols import FULL_SIZE
from stdc.weights.array_files import write_pdparams

FRAMES, HEIGHT, WIDTH = 6, 128, 256


def make_folder(root: Path) -> List[Tuple[Path, Path]]:
    """Frames of two cities: (image, labelTrainIds), sorted as PaddleSeg sorts them."""
    pairs = []
    for index in range(FRAMES):
        city = ("aachen", "bochum")[index % 2]
        stem = f"{city}_{index:06}_000019"
        image = root / "leftImg8bit" / "val" / city / f"{stem}_leftImg8bit.png"
        label = root / "gtFine" / "val" / city / f"{stem}_gtFine_labelTrainIds.png"
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        pixels = seeded.images(1, HEIGHT, WIDTH, index)[0].transpose(1, 2, 0)
        cv2.imwrite(str(image), np.clip(128 + 48 * pixels, 0, 255).astype(np.uint8))
        cv2.imwrite(str(label), seeded.labels(1, HEIGHT, WIDTH, index)[0].astype(np.uint8))
        pairs.append((image, label))
    return sorted(pairs)


def mend_areas() -> None:
    """PaddleSeg 2.7 concatenates scalars, which Paddle refuses since scalars have no axis; stacking gives the same."""
    source = inspect.getsource(peer_metrics.calculate_area)
    assert source.count("paddle.concat(") == 3
    names: Dict[str, Any] = dict(vars(peer_metrics))
    exec(source.replace("paddle.concat(", "paddle.stack("), names)
    peer_metrics.calculate_area = names["calculate_area"]


def rows() -> List[Dict[str, Any]]:
    """Difference of the mean IoU and of the class IoUs."""
    mend_areas()
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_folder(Path(folder))
        ours = build_segmentor("stdc1")
        shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
        load_segmentor(ours, seeded.weights(shapes), "seeded weights")
        path = Path(folder, "model.pdparams")
        write_pdparams(path, with_unused_heads(state_arrays(ours)))
        theirs = peer.build("stdc1")
        peer.load_entire_model(theirs, str(path))
        dataset = Cityscapes(transforms=[Normalize()], dataset_root=folder, mode="val")
        miou, _, class_iou, _, _ = val.evaluate(theirs, dataset, num_workers=0, print_detail=False)
        entries = [Entry(image.stem, image, label) for image, label in pairs]
        half = (0.5, 0.5, 0.5)
        (counts,) = evaluate(ours, EvalDataset(entries, half, half), [FULL_SIZE])
    our_classes = metrics.class_iou(counts.confusion)
    # Classes that occur nowhere are counted differently; here there are none.
    assert None not in our_classes and max(our_classes) > 0
    gaps = [abs(metrics.mean_iou(counts.confusion) - float(miou))]
    gaps += [abs(mine - float(other)) for mine, other in zip(our_classes, class_iou)]
    return [
        {
            "what": f"mean and class IoU of PaddleSeg's validation of our .pdparams, {FRAMES} frames",
            "peer": "paddleseg 2.7.0",
            "tolerance": 1e-6,
            "measured": max(gaps),
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the rows go, as JSON")
    options = parser.parse_args()
    options.out.write_text(json.dumps({"backend": f"paddle {paddle.__version__}", "rows": rows()}))


if __name__ == "__main__":
    main()
