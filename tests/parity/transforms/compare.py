"""Full-size training crops beside PaddleSeg's, as rows for run_parity.py.

    python tests/parity/transforms/compare.py --out rows.json

Needs the environment of the peers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

CROPS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the rows go, as JSON")
    options = parser.parse_args()
    import paddle
    from make_arrays import Recorder, check

    row = {
        "what": f"training crops 1024x2048 to 512x1024 that differ in any bit, of {CROPS}",
        "peer": "paddleseg 2.7.0",
        "tolerance": 0.0,
        "measured": float(check(Recorder(), CROPS)),
    }
    options.out.write_text(json.dumps({"backend": f"paddle {paddle.__version__}", "rows": [row]}))


if __name__ == "__main__":
    main()
