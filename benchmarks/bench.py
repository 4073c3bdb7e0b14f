"""Speed beside PaddleSeg 2.7, and against what the machine can do: writes benchmarks/RESULTS.md and results.svg.

    make bench                     # installs the peer beside; within 40 minutes on 2 cores
    make bench ARGS=--quick        # 3 minutes: fewer rounds, smaller crops in the training step
    make bench ARGS="--frames /data/cityscapes --only loading step"

Each module of this folder named in MODULES measures its rows in a process of its own; both sides of a row run in that
process alternately, on equal draws. The ratio is the median of the peer's figure over ours; above 1 stdc is faster.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from rows import Bench, Pair, Row  # noqa: E402

#: In the order of the table.
MODULES = ("limits", "loading", "conversion", "checks", "step", "evaluation")
_LIMIT_S = {True: 170.0, False: 900.0}


def main() -> int:
    options = arguments().parse_args()
    if options.module:
        _measure(options)
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        frames = options.frames
        if frames is None:
            from frames import make_frames

            frames = Path(scratch) / "frames"
            make_frames(frames, 2 if options.quick else 8)
        found = {name: _run(name, frames, Path(scratch), options) for name in options.only or MODULES}
    text = report(found, options.quick, time.monotonic() - started)
    (options.output / "RESULTS.md").write_text(text, encoding="utf-8")
    rows = [row for part in found.values() for row in part if isinstance(row, Row)]
    (options.output / "results.svg").write_text(picture(rows), encoding="utf-8")
    print(text)
    return 0 if all(isinstance(row, Row) for part in found.values() for row in part) else 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three minutes instead of forty")
    parser.add_argument("--rounds", type=int, help="pairs of runs per row (default: 5, quick: 1)")
    parser.add_argument("--frames", type=Path, metavar="FOLDER", help="Cityscapes-format frames; none: generated ones")
    parser.add_argument("--only", nargs="+", choices=MODULES, help="these modules alone")
    parser.add_argument("--output", type=Path, default=HERE, metavar="FOLDER", help="for RESULTS.md and results.svg")
    parser.add_argument("--module", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser


def _measure(options: argparse.Namespace) -> None:
    """In the process of one module."""
    scratch = options.scratch / options.module
    scratch.mkdir()
    rounds = options.rounds or (1 if options.quick else 5)
    peer = importlib.util.find_spec("paddleseg") is not None
    rows = importlib.import_module(options.module).rows(Bench(options.frames, scratch, options.quick, rounds, peer))
    (options.scratch / f"{options.module}.json").write_text(json.dumps([dataclasses.asdict(row) for row in rows]))


def _run(name: str, frames: Path, scratch: Path, options: argparse.Namespace) -> List[Any]:
    """The rows of one module, or why there are none."""
    if not (HERE / f"{name}.py").is_file():
        return [f"{name}: not in this folder"]
    command = [sys.executable, __file__, "--module", name, "--scratch", scratch, "--frames", frames]
    command += ["--quick"] if options.quick else []
    command += ["--rounds", options.rounds] if options.rounds else []
    try:
        subprocess.run(list(map(str, command)), check=True, timeout=_LIMIT_S[options.quick])
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return [f"{name}: not measured: {type(error).__name__}"]
    return [_row(values) for values in json.loads((scratch / f"{name}.json").read_text())]


def _row(values: Dict[str, Any]) -> Row:
    pair = values.pop("pair")
    return Row(**values, pair=None if pair is None else Pair(tuple(pair["ours"]), tuple(pair["peer"])))


# The page.


def report(found: Dict[str, List[Any]], quick: bool, seconds: float) -> str:
    """RESULTS.md."""
    lines = [
        "# Speed",
        "",
        f"Made by `make bench{' ARGS=--quick' if quick else ''}` on {datetime.date.today().isoformat()} in "
        f"{seconds / 60:.0f} minutes. Less is better; the ratio is PaddleSeg 2.7's figure over ours, the median and "
        'the range over rounds. "Must" is a ratio where there is a peer, else a figure to stay below.',
        "",
        *_machine(),
        "",
        "![ratios](results.svg)",
        "",
        "| work | unit | PaddleSeg | stdc | limit | ratio (range) | must | aim | met | equal, notes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        lines += [_line(row) if isinstance(row, Row) else f"| {name} | | | | | | | | **no** | {row} |" for row in rows]
    tried = HERE / "TRIED.md"
    return "\n".join([*lines, "", tried.read_text(encoding="utf-8") if tried.is_file() else ""]).rstrip() + "\n"


def _line(row: Row) -> str:
    peer, ratio = "-", "-"
    if row.pair is not None:
        ratios = row.pair.ratios()
        peer = _number(sorted(row.pair.peer)[len(row.pair.peer) // 2])
        ratio = f"{row.ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    met = {None: "", True: "yes", False: "**no**"}[row.met]
    notes = "; ".join(text for text in (row.equal, row.note) if text)
    cells = [row.work, row.unit, peer, _number(row.figure), _number(row.limit), ratio, _number(row.must)]
    return "| " + " | ".join([*cells, _number(row.aim), met, notes]) + " |"


def _number(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _machine() -> List[str]:
    import cv2
    import numpy
    import PIL

    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    versions = {"Python": platform.python_version(), "NumPy": numpy.__version__, "OpenCV": cv2.__version__}
    versions["Pillow"] = PIL.__version__
    for name in ("paddle", "paddleseg", "kornia_rs", "isal", "onnxruntime"):
        versions[name] = _version(name)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"Machine: {cpu}, {len(os.sched_getaffinity(0))} cores; load over 1, 5 and 15 minutes at the end: {load}. "
        "A load above the number of cores means that others computed at the same time, which moves wall times and, by "
        "shared caches, CPU times too.",
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in {"paddle": ("paddlepaddle", "paddlepaddle-gpu")}.get(package, (package,)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"


def picture(rows: List[Row]) -> str:
    """Bars of the ratios, with what must be reached and what is aimed for."""
    shown = [row for row in rows if row.ratio is not None]
    left, wide, high = 470, 420, 26
    most = max([row.aim or row.ratio or 1 for row in shown] + [row.ratio or 1 for row in shown] + [2.0])
    scale = wide / most
    body = []
    for number, row in enumerate(shown):
        top = 40 + number * high
        color = "#2a7d46" if row.met else "#8a8f98" if row.met is None else "#b3423a"
        text = row.work.replace("&", "&amp;").replace("<", "&lt;")
        body.append(f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{text[:72]}</text>')
        body.append(f'<rect x="{left}" y="{top}" width="{(row.ratio or 0) * scale:.1f}" height="18" fill="{color}"/>')
        body.append(f'<text x="{left + (row.ratio or 0) * scale + 6:.1f}" y="{top + 14}">{row.ratio:.1f}x</text>')
        for value, dash in ((row.must, ""), (row.aim, ' stroke-dasharray="3 2"')):
            if value is not None:
                x = left + value * scale
                body.append(f'<path d="M{x:.1f} {top - 2}v22" stroke="#222" stroke-width="1.5"{dash}/>')
    bottom = 40 + len(shown) * high
    body.append(f'<path d="M{left + scale:.1f} 34V{bottom}" stroke="#999"/>')
    title = "PaddleSeg 2.7's time over ours (line: must, dashed: aim)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 70}" height="{bottom + 12}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="12" y="22" font-size="14">{title}</text>{"".join(body)}</svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
