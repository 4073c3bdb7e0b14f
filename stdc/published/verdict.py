"""Is the published figure reproduced?

Whether a figure may be compared with at all is decided in `stdc.published.reasons`. Of a comparable figure, both values
rounded to hundredths of a point:

* REPRODUCED: the run reaches the published value;
* WITHIN NOISE: below it by no more than the tolerance, which is what training again with nothing changed moves it by;
* BELOW: further below.

Pure functions: the same inputs give the same verdict.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from stdc.published import words
from stdc.published.evidence import Evidence, protocol_key
from stdc.published.figures import Reference
from stdc.published.reasons import nearest, rows_of

REPRODUCED = "REPRODUCED"
WITHIN_NOISE = "WITHIN NOISE"
BELOW = "BELOW"
NOT_COMPARABLE = "NOT COMPARABLE"

#: Verdicts from the least favorable to the most.
_ORDER = (BELOW, WITHIN_NOISE, REPRODUCED)


def judge(evidence: Evidence, reference: Reference) -> Dict[str, Any]:
    """The content of `verdict.json`.

    mIoU and differences are in percent and points. `verdict` is the least favorable one among comparable figures;
    `decisive` names the figure it comes from, or the nearest one where none is comparable.
    """
    comparisons = [_graded(row, evidence) for row in rows_of(evidence, reference)]
    comparable = [row for row in comparisons if row["verdict"] != NOT_COMPARABLE]
    if comparable:
        decisive = min(comparable, key=lambda row: (_ORDER.index(row["verdict"]), row["difference_points"]))
    else:
        decisive = nearest(comparisons, evidence)
    reasons = decisive["reasons"]
    measured = _measured(evidence)
    summary = words.comparison(decisive) if comparable else words.no_comparison(decisive, measured[0])
    return {
        "format": 1,
        "name": evidence.name,
        "verdict": decisive["verdict"],
        "summary": summary,
        "reasons": reasons,
        "line": words.line(decisive["verdict"], summary, reasons),
        "caveats": words.caveats(evidence, reference),
        "decisive": decisive["id"],
        "compared": len(comparable),
        "comparisons": comparisons,
        "selected": {"weights": "final", "why": words.why_these_weights(evidence)},
        "measured": measured,
        "seeds": list(evidence.seeds),
        "initialization": words.initialization(evidence, reference),
        "tolerance_points": reference.tolerance_points,
        "unit": "percent",
    }


def _graded(row: Mapping[str, Any], evidence: Evidence) -> Dict[str, Any]:
    """A row of the forecast with what was measured, and the grade where it is comparable."""
    entry = evidence.at(row["weights"], protocol_key(row["protocol"]["scales"], row["protocol"]["flip"]))
    spread = _spread(entry.scores if entry else ()) or {"mean": None, "min": None, "max": None}
    graded: Dict[str, Any] = {
        **row,
        "measured": spread["mean"],
        "measured_min": spread["min"],
        "measured_max": spread["max"],
        "difference_points": None,
        "verdict": NOT_COMPARABLE,
    }
    if not row["reasons"]:
        difference = _hundredths(spread["mean"]) - _hundredths(row["published"])
        graded["difference_points"] = difference / 100
        graded["verdict"] = _grade(difference, _hundredths(row["tolerance"]))
    return graded


def _grade(difference: int, tolerance: int) -> str:
    """Both in hundredths of a point."""
    if difference >= 0:
        return REPRODUCED
    return WITHIN_NOISE if difference >= -tolerance else BELOW


def _hundredths(percent: float) -> int:
    return round(percent * 100)


def _measured(evidence: Evidence) -> List[Dict[str, Any]]:
    """One row per protocol, in the order of the configuration; the first is the main one."""
    rows = []
    for entry in evidence.evaluations["final"]:
        best = evidence.at("best", entry.key)
        rows.append(
            {
                "name": entry.name,
                "scales": list(entry.scales),
                "flip": entry.flip,
                "size": list(entry.size) if entry.size else None,
                "images": entry.images[0],
                "final": _spread(entry.scores),
                "best": _spread(best.scores) if best else None,
            }
        )
    return rows


def _spread(values: Sequence[float]) -> Optional[Dict[str, Any]]:
    """Mean, least, and greatest of the seeds' mIoU in percent; None where there is none."""
    if not values:
        return None
    return {
        "mean": round(sum(values) / len(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "seeds": [round(value, 4) for value in values],
    }
