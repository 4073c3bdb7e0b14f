"""How the stages before the training grow with the number of frames: seconds, and memory at most, for each number.

    python benchmarks/growth.py --frames 10 100 1000

The frames are one tiny picture under many names, so what is measured is the cost per file, name and line; what pixels
cost is in RESULTS.md. A stage that compares everything with everything would show here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Tuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

_CITIES = {"train": ("aachen", "bochum"), "val": ("frankfurt",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 100, 1000], metavar="N", help="numbers of frames")
    options = parser.parse_args()
    print("| frames | check, s | conversion, s | lists, s | most memory, MB |\n|---|---|---|---|---|")
    for count in options.frames:
        with tempfile.TemporaryDirectory() as folder:
            seconds, memory = _stages(make_frames(Path(folder) / "dataset", count), Path(folder))
            cells = [f"{seconds[stage]:.2f}" for stage in ("check_dataset", "convert_labels", "create_lists")]
            print(f"| {count} | {' | '.join(cells)} | {memory / 1e6:.0f} |", flush=True)


def make_frames(root: Path, count: int) -> Path:
    """A dataset of `count` frames, one of ten for validation, each the same picture and label."""
    from tiny import make_tiny_dataset

    make_tiny_dataset(root / "one", {"train": ("aachen",)}, frames=1, height=64, width=128)
    sources = sorted(path for path in (root / "one").rglob("*") if path.is_file())
    for number in range(count):
        split = "val" if number % 10 == 9 else "train"
        city = _CITIES[split][number % len(_CITIES[split])]
        for source in sources:
            half = source.relative_to(root / "one").parts[0]
            suffix = source.name.split("_", 3)[3]
            target = root / half / split / city / f"{city}_{number // 1000:06d}_{number % 1000:06d}_{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    shutil.rmtree(root / "one")
    return root


def _stages(dataset: Path, folder: Path) -> Tuple[Dict[str, float], int]:
    manifest, index = ["--manifest", folder / "manifest.json"], ["--index", folder / "labels.json"]
    commands = {
        "check_dataset": ["--dataset", dataset, "--output", folder / "manifest.json"],
        "convert_labels": ["--dataset", dataset, *manifest, *index, "--output", folder / "labels"],
        "create_lists": [*manifest, *index, "--output", folder / "lists"],
    }
    seconds, memory = {}, 0
    for program, arguments in commands.items():
        started = time.perf_counter()
        peak = _run([sys.executable, str(REPOSITORY / "workflow/scripts" / f"{program}.py"), *map(str, arguments)])
        seconds[program] = time.perf_counter() - started
        memory = max(memory, peak)
    return seconds, memory


def _run(command: List[str]) -> int:
    """Bytes that the program had in memory at most."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: status {status}")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
