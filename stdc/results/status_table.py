"""The status of runs as a table for a terminal."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Optional, Sequence, Set

from stdc.results.run_status import RunStatus
from stdc.units import bytes_text, clock_text


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of the table; where there is no room, those with the highest `rank` are left out first."""

    title: str
    rank: int
    right: bool = True


_COLUMNS = (
    _Column("run", 0, right=False),
    _Column("recipe", 0, right=False),
    _Column("seed", 1),
    _Column("state", 0, right=False),
    _Column("iteration", 0),
    _Column("ETA", 1),
    _Column("loss", 2),
    _Column("mIoU %", 1),
    _Column("best %", 1),
    _Column("images/s", 3),
    _Column("waits", 4),
    _Column("last sign", 2),
    _Column("disk", 4),
    _Column("process", 5, right=False),
)


def as_table(runs: Sequence[RunStatus], width: Optional[int]) -> str:
    """One line per run, and what can go.

    Args:
        width: of the terminal, in characters; None for all columns.
    """
    if not runs:
        return "no runs yet"
    rows = [_cells(run) for run in runs]
    hidden: Set[int] = set()
    while True:
        shown = [index for index, column in enumerate(_COLUMNS) if index not in hidden]
        lines = _lines(rows, shown)
        last = max(_COLUMNS[index].rank for index in shown)
        if width is None or last == 0 or max(map(len, lines)) <= width:
            break
        hidden.add(max(index for index in shown if _COLUMNS[index].rank == last))
    spare = [run for run in runs if not run.needed]
    if spare:
        freed = bytes_text(sum(run.disk_bytes for run in spare))
        lines += ["", f"No result needs these any more ({freed}): {' '.join(run.folder for run in spare)}"]
    return "\n".join(lines)


def _lines(rows: Sequence[Sequence[str]], shown: Sequence[int]) -> List[str]:
    table = [[column.title for column in _COLUMNS], *rows]
    widths = {index: max(len(row[index]) for row in table) for index in shown}
    return [
        "  ".join(
            row[index].rjust(widths[index]) if _COLUMNS[index].right else row[index].ljust(widths[index])
            for index in shown
        ).rstrip()
        for row in table
    ]


def _cells(run: RunStatus) -> List[str]:
    done = "-" if run.iteration is None else f"{run.iteration:,}"
    return [
        run.folder[:8],
        run.name or "-",
        _shown(run.seed, "{}"),
        run.state,
        done if run.iterations is None else f"{done}/{run.iterations:,}",
        "-" if run.eta_s is None else clock_text(run.eta_s),
        _shown(run.loss, "{:.4f}"),
        _shown(None if run.miou is None else 100 * run.miou, "{:.2f}"),
        _shown(None if run.best_miou is None else 100 * run.best_miou, "{:.2f}"),
        _shown(run.images_per_s, "{:.1f}"),
        _shown(None if run.wait_share is None else 100 * run.wait_share, "{:.0f}%"),
        "-" if run.silent_s is None else clock_text(run.silent_s),
        bytes_text(run.disk_bytes),
        "-" if run.pid is None else f"{run.pid} on {run.host or '-'}",
    ]


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)
