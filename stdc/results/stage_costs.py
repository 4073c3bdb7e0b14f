"""What each stage of a run took, from the files of Snakemake's `benchmark:`."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence

from stdc.errors import InputError
from stdc.files import read_text


@dataclasses.dataclass(frozen=True)
class StageCost:
    """What one job took, as Snakemake measured it. A figure that it could not measure is None.

    Attributes:
        stage: name of the rule.
        run: what the job was for, such as "seed 0"; empty for the stages of a dataset.
    """

    stage: str
    run: str
    seconds: float
    peak_megabytes: Optional[float]
    cpu_seconds: Optional[float]


def read_stage_costs(paths: Sequence[Path]) -> List[StageCost]:
    """The benchmark files that exist, in the order given. One that is not of Snakemake's form is left out.

    Args:
        paths: `logs/benchmark/<rule>/<name>[-seed<k>[_best]].tsv`.
    """
    costs = []
    for path in paths:
        try:
            rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t"))
        except (InputError, OSError, csv.Error):
            continue
        seconds = [value for value in (_measured(row, "s") for row in rows) if value is not None]
        if not seconds:
            continue
        peaks = [value for value in (_measured(row, "max_rss") for row in rows) if value is not None]
        busy = [value for value in (_measured(row, "cpu_time") for row in rows) if value is not None]
        costs.append(
            StageCost(
                stage=path.parent.name.replace("_", " "),
                run=_run_of(path.stem),
                seconds=math.fsum(seconds),
                peak_megabytes=max(peaks, default=None),
                cpu_seconds=math.fsum(busy) if busy else None,
            )
        )
    return costs


def _measured(row: Mapping[str, Any], column: str) -> Optional[float]:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        # Snakemake writes "-" or "NA" where a job was too short to be measured.
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _run_of(stem: str) -> str:
    match = re.search(r"-seed(\d+)(_best)?$", stem)
    if match is None:
        return ""
    return f"seed {match.group(1)}{', best weights' if match.group(2) else ''}"
