"""What a check found, and the table that a person reads."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence

OK = "ok"
WARNING = "warning"
PROBLEM = "problem"


class Finding(NamedTuple):
    """One row of the table.

    Attributes:
        level: OK; WARNING, the run may start and may suffer; PROBLEM, it would fail.
        check: what was looked at.
        found: what is there, with the figures that the level was decided by.
        fix: what to do; empty for OK.
    """

    level: str
    check: str
    found: str
    fix: str = ""


def count(findings: Sequence[Finding], level: str) -> int:
    """How many findings have this level."""
    return sum(finding.level == level for finding in findings)


def table(findings: Sequence[Finding]) -> List[str]:
    """Lines for a terminal: one row per check, the fix below it."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.check:<{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"{'':<8} {'':<{width}}  -> {finding.fix}")
    return lines


def document(findings: Sequence[Finding]) -> List[Dict[str, Any]]:
    """The same as JSON values."""
    return [finding._asdict() for finding in findings]
