"""RESULTS.md and results.svg: rows of the table, the machine that they were measured on, and bars of the ratios."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Dict, List, Optional, Union

from rows import Row

#: A row, or a line that says what was not measured and why.
Found = Union[Row, str]

_PACKAGES = ("numpy", "opencv-python-headless", "Pillow", "paddlepaddle", "paddleseg", "kornia_rs", "isal", "orjson")


def results(found: Dict[str, List[Found]], command: str, seconds: float, loads: List[float], tried: str) -> str:
    """RESULTS.md.

    Args:
        found: what each module gave.
        command: that made the page.
        seconds: that it took so far.
        loads: of the machine, at the start and after each module.
        tried: a section that follows the table.
    """
    lines = [
        "# Speed",
        "",
        f"Made by `{command}` on {datetime.date.today().isoformat()} in {seconds / 60:.0f} minutes. Less is better; "
        "the ratio is PaddleSeg 2.7's figure over ours, the median and the range over rounds. A must or an aim is a "
        "ratio to reach where there is a peer, else a figure to stay below.",
        "",
        *_machine(loads),
        "",
        summary(found),
        "",
        "![ratios](results.svg)",
        "",
        "| work | unit | PaddleSeg | stdc | limit | ratio (range) | must | aim | must reached | equal, notes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        lines += [row_line(row) if isinstance(row, Row) else f"| {name} |{' |' * 7} **no** | {row} |" for row in rows]
    return "\n".join([*lines, "", tried]).rstrip() + "\n"


def summary(found: Dict[str, List[Found]]) -> str:
    """How many figures that must be reached are, and which are not."""
    rows = [row for part in found.values() for row in part if isinstance(row, Row) and row.met is not None]
    missed = [f"{row.work} ({row.unit})" for row in rows if not row.met]
    missed += [text for part in found.values() for text in part if isinstance(text, str)]
    reached = sum(bool(row.met) for row in rows)
    return f"Reached: {reached} of {len(rows)} figures that must be. " + (
        f"Not reached or not measured: {'; '.join(missed)}." if missed else "Nothing is missing."
    )


def row_line(row: Row) -> str:
    """One line of the table."""
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


def _machine(loads: List[float]) -> List[str]:
    named = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    cpu = named[0].split(":", 1)[1].strip() if named else platform.machine()
    cores = len(os.sched_getaffinity(0))
    busy = "; others computed at the same time, which moves wall times and, by shared caches, CPU times too"
    shown = ", ".join(f"{load:.1f}" for load in loads)
    versions = [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
    versions.append(f"onnxruntime {_version('onnxruntime')}")
    return [
        f"Machine: {cpu}, {cores} cores. Load over a minute at the start and after each module: {shown}"
        f"{busy if max(loads, default=0) > cores + 0.5 else ''}.",
        "",
        ", ".join(versions) + ".",
    ]


def _lines(path: Path) -> List[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
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
