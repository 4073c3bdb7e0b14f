"""How the page writes numbers, sizes and hashes."""

from __future__ import annotations

from typing import Any, Optional, Sequence

#: Shown for a missing value.
NONE = "\u2013"
TIMES = "\u00d7"


def percent(value: Optional[float], digits: int = 2) -> str:
    """A fraction in percent, without the sign; a dash for None."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


def number(value: Any, digits: int = 2) -> str:
    """A number with thousands separated; a dash for None."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def numbers(values: Optional[Sequence[float]]) -> str:
    """Several numbers, separated by commas, without trailing zeros."""
    return ", ".join(f"{value:g}" for value in values or ()) or NONE


def short_hash(value: Any) -> str:
    """The first 12 characters of a hash; a dash for none."""
    return str(value)[:12] if value else NONE


def plain(value: Any) -> str:
    """Any value as text; a dash for None."""
    return NONE if value is None else str(value)
