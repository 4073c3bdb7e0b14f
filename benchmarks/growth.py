"""The whole workflow, as users start it: a run on which nothing is left to do, and its stages at 10 to 5,000 frames.

The frames are one tiny picture under many names, so what grows is the cost per file, name, and line; what pixels cost
is in the other rows. A stage that compares everything with everything would show here.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from rows import Bench, Row  # noqa: E402

_FRAMES = (10, 100, 1000, 5000)
_CITIES = {"train": "aachen", "val": "frankfurt"}
_HEIGHT, _WIDTH = 64, 128
_STAGES = ("check_dataset", "convert_labels", "create_lists", "evaluate")
#: The shortest training that gives weights to evaluate.
_RECIPE = {
    "name": "growth",
    "hardware": {"device": "cpu", "devices": 1, "threads": 1, "workers": 0},
    "train": {
        "preset": "paddleseg",
        "iterations": 2,
        "global_batch": 2,
        "crop_height": _HEIGHT,
        "crop_width": _HEIGHT,
        "evaluate": False,
        "prediction_images": 0,
    },
    "speed": {"height": _HEIGHT, "width": _WIDTH, "batch": 1, "warmup": 1, "iterations": 2},
    "report": {"overlays": 1},
}


def mini(bench: Bench) -> Iterator[Row]:
    """A finished mini run, once more."""
    place = bench.scratch / "mini"
    place.mkdir()
    _snakemake(place)
    yield _no_op(place, [], "no-op snakemake on the finished mini run", 3)


def frames(bench: Bench) -> Iterator[Row]:
    """Seconds and memory of each stage by the number of frames; then a run with nothing left to do."""
    seconds: Dict[str, List[float]] = {stage: [] for stage in _STAGES}
    memory: Dict[str, List[float]] = {stage: [] for stage in _STAGES}
    for count in _FRAMES:
        place = bench.scratch / str(count)
        recipe = place / "recipe.json"
        dataset = make_frames(place / "dataset", count)
        recipe.write_text(json.dumps({**_RECIPE, "dataset": str(dataset)}), encoding="utf-8")
        words = ["--configfile", str(recipe)]
        _snakemake(place, *words)
        for stage in _STAGES:
            (table,) = (place / "logs" / "benchmark" / stage).glob("*.tsv")
            with table.open(encoding="utf-8") as lines:
                (costs,) = csv.DictReader(lines, delimiter="\t")
            seconds[stage].append(float(costs["s"]))
            memory[stage].append(float(costs["max_rss"]))
        yield _no_op(place, words, f"no-op snakemake on a finished run, {count} frames", 5 if count == 5000 else None)
    for stage in _STAGES:
        # Half of the frames are for validation, and only those are evaluated.
        share = 0.5 if stage == "evaluate" else 1.0
        last = (seconds[stage][-1] - seconds[stage][-2]) / (share * (_FRAMES[-1] - _FRAMES[-2]))
        mean = (seconds[stage][-2] - seconds[stage][0]) / (share * (_FRAMES[-2] - _FRAMES[0]))
        sizes = ", ".join(str(int(share * count)) for count in _FRAMES)
        yield Row(
            f"{stage}, growth: each frame from {int(share * _FRAMES[-2])} to {int(share * _FRAMES[-1])}",
            "ms of wall time",
            ours=1000 * last,
            note=f"each frame before that: {1000 * mean:.2g} ms; at {sizes} frames: "
            f"{_joined(seconds[stage], '.1f')} s, {_joined(memory[stage], '.0f')} MB at most",
        )


PARTS = (mini, frames)


def _joined(values: List[float], form: str) -> str:
    return ", ".join(format(value, form) for value in values)


def make_frames(root: Path, count: int) -> Path:
    """A dataset of `count` frames, half of them for validation, each the same picture and label."""
    from tiny import make_tiny_dataset

    make_tiny_dataset(root / "one", {"train": ("aachen",)}, frames=1, height=_HEIGHT, width=_WIDTH)
    sources = sorted(path for path in (root / "one").rglob("*") if path.is_file())
    for number in range(count):
        split = ("train", "val")[number % 2]
        city = _CITIES[split]
        for source in sources:
            half = source.relative_to(root / "one").parts[0]
            suffix = source.name.split("_", 3)[3]
            target = root / half / split / city / f"{city}_{number // 1000:06d}_{number % 1000:06d}_{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    shutil.rmtree(root / "one")
    return root


def _no_op(place: Path, words: List[str], work: str, must: object) -> Row:
    runs = [_snakemake(place, *words) for _ in range(3)]
    wall_s, cpu_s = min(runs)
    note = f"the shortest of 3, {cpu_s:.1f} s of CPU; all: {_joined([wall for wall, _ in runs], '.1f')} s"
    return Row(work, "s of wall time", ours=wall_s, must=must, note=note)  # type: ignore[arg-type]


def _snakemake(place: Path, *words: str) -> Tuple[float, float]:
    """Wall and CPU seconds of a run to the end.

    Raises:
        RuntimeError: it failed; the end of what it said.
    """
    workflow = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(REPOSITORY / ".venv" / "workflow" / "bin" / "python")
    train = os.environ.get("STDC_PYTHON") or str(REPOSITORY / ".venv" / "train" / "bin" / "python")
    command = [workflow, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "2", *words]
    started, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=place, env={**os.environ, "STDC_PYTHON": train}, capture_output=True, text=True, check=False
    )
    wall_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"snakemake ended with {done.returncode}: {(done.stdout + done.stderr)[-200:]}")
    return wall_s, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
