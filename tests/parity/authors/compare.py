# ruff: noqa: E402
"""Load full-size torch checkpoints here, with the network that they describe; measure the differences.

python tests/parity/authors/make_arrays.py --live DIR        # in an environment with torch
python tests/parity/authors/compare.py DIR --out rows.json   # in one with Paddle
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent / "network")]

import numpy as np
import paddle
import seeded

from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_backbone, load_segmentor, state_arrays
from stdc.weights.torch_files import read_torch
from stdc.weights.torch_names import convert

SIZES = ((64, 128), (67, 97), (256, 512))


def logits_difference(folder: Path, backbone: str, file: str) -> float:
    """Largest difference of the logits over their largest value."""
    model = build_segmentor(backbone, pool_counts_padding=True)
    load_segmentor(model, convert(read_torch(folder / file)), file)
    model.eval()
    worst = 0.0
    for height, width in SIZES:
        expected = np.load(folder / f"{backbone}_{height}x{width}.npy")
        with paddle.no_grad():
            found = model(paddle.to_tensor(seeded.images(1, height, width))).numpy()
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return worst


def backbone_difference(folder: Path, backbone: str) -> float:
    """Share of the backbone's parameters that an ImageNet checkpoint gives other values than a segmentor's."""
    whole = convert(read_torch(folder / f"{backbone}_segmentor.pth"))
    model = build_segmentor(backbone)
    load_backbone(model, convert(read_torch(folder / f"{backbone}_backbone_torch1.tar")), "backbone")
    state = {name: value for name, value in state_arrays(model).items() if name.startswith("cp.backbone.")}
    return sum(not np.array_equal(value, whole[name]) for name, value in state.items()) / len(state)


def rows(folder: Path) -> List[Dict[str, Any]]:
    """Every comparison."""
    made: List[Dict[str, Any]] = []

    def add(what: str, tolerance: float, measured: float) -> None:
        peer = "authors' network in torch 2.13"
        made.append({"what": what, "peer": peer, "tolerance": tolerance, "measured": measured})
        print(f"{what}: {measured:.3g}", file=sys.stderr, flush=True)

    for backbone in ("stdc1", "stdc2"):
        name = f"{backbone.upper()}-Seg"
        sizes = ", ".join(f"{height}x{width}" for height, width in SIZES)
        for file, kind in (("segmentor.pth", "zip"), ("segmentor_torch1.pth", "torch 1.1")):
            measured = logits_difference(folder, backbone, f"{backbone}_{file}")
            add(f"{name}: logits of a converted checkpoint ({kind} container) at {sizes}", 1e-5, measured)
        add(
            f"{name}: backbone parameters that differ from the checkpoint's", 0.0, backbone_difference(folder, backbone)
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="what make_arrays.py --live wrote")
    parser.add_argument("--out", type=Path, required=True, help="where the rows go, as JSON")
    options = parser.parse_args()
    options.out.write_text(json.dumps({"backend": f"paddle {paddle.__version__}", "rows": rows(options.folder)}))


if __name__ == "__main__":
    main()
