"""Values in words."""

from __future__ import annotations

from typing import Any, Optional, Sequence

#: Stands for a value that there is none of.
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
    """Numbers in a row, as short as they are."""
    return ", ".join(f"{value:g}" for value in values or ()) or NONE


def short_hash(value: Any) -> str:
    """The beginning of a hash."""
    return str(value)[:12] if value else NONE


def size_text(size: Optional[Sequence[int]]) -> str:
    """(height, width) as width×height."""
    return f"{size[1]}{TIMES}{size[0]}" if size else "different sizes"


def plain(value: Any) -> str:
    """Any value; a dash for None."""
    return NONE if value is None else str(value)
