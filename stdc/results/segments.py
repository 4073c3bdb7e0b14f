"""The parts that a training was done in: one per process, where it was stopped and went on."""

from __future__ import annotations

import datetime
import math
from typing import Any, List, Mapping, Optional


def segments_of(provenance: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """The processes that trained, one after another. A file written before they were noted tells of the last alone."""
    return list(provenance.get("segments") or []) or [provenance]


def training_seconds(provenance: Mapping[str, Any]) -> Optional[float]:
    """Time that all processes of a training spent, without the pauses between them; None where one is not known."""
    spent = [seconds_of(segment) for segment in segments_of(provenance)]
    known = [seconds for seconds in spent if seconds is not None]
    return math.fsum(known) if known and len(known) == len(spent) else None


def seconds_of(segment: Mapping[str, Any]) -> Optional[float]:
    """Time from the start of a process to its end; None where one of the two is missing or is no time."""
    try:
        started, finished = (_moment(segment[key]) for key in ("started", "finished"))
        return max(0.0, (finished - started).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def _moment(text: Any) -> datetime.datetime:
    # Python 3.8 does not know the Z of ISO 8601.
    return datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
