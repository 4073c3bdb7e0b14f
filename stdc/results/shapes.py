"""Whether a JSON document has the keys and kinds of values that the page reads: one line for the first that it lacks.

A shape is a type, a function made here (`optional`, `list_of`, `map_of`, `number`, ...), or a mapping from keys to
shapes; a key that ends in "?" may be absent. Other keys are not looked at.
"""

from __future__ import annotations

import math
import reprlib
from typing import Any, Callable, Dict, Mapping, Optional, Union

from stdc.errors import InputError

#: Called with a value; the words that name what was expected, or None where the value is right.
Check = Callable[[Any], Optional[str]]
Shape = Union[type, Check, Mapping[str, Any]]

_NAMES = {str: "a text", int: "a whole number", bool: "true or false", dict: "a JSON object", list: "a list"}


class _Wrong(Exception):
    """Where a document differs from its shape: keys from the outside in, and what was expected there."""

    def __init__(self, where: str, expected: str, value: Any) -> None:
        super().__init__(where)
        self.where, self.expected, self.value = where, expected, value


#: Found where a key is absent.
_MISSING = object()


def check(where: object, document: Any, shape: Shape, advice: str) -> None:
    """Refuse a document of another shape.

    Args:
        where: the file, for the message.
        advice: what to do about it, for the message.
    Raises:
        InputError: names the file, the key, what was found and what is expected.
    """
    try:
        _check("", document, shape)
    except _Wrong as wrong:
        found = "missing" if wrong.value is _MISSING else f"{reprlib.repr(wrong.value)} found"
        key = f"{wrong.where}: " if wrong.where else ""
        raise InputError(f"{where}: {key}{found}, {wrong.expected} is expected; {advice}") from None


def optional(shape: Shape) -> Check:
    """The shape, or null."""
    return lambda value: None if value is None else _check("", value, shape)


def list_of(shape: Shape, length: Optional[int] = None) -> Check:
    """A list, each entry of one shape; of exactly `length` entries where that is given."""

    def checked(value: Any) -> Optional[str]:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            return "a list" if length is None else f"a list of {length} values"
        for index, entry in enumerate(value):
            _check(f"[{index}]", entry, shape)
        return None

    return checked


def map_of(shape: Shape) -> Check:
    """An object with any keys, each value of one shape."""

    def checked(value: Any) -> Optional[str]:
        if not isinstance(value, dict):
            return "a JSON object"
        for key, entry in value.items():
            _check(str(key), entry, shape)
        return None

    return checked


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number in a range, both ends included."""
    words = "a number" if math.isinf(low) else f"a number of {low:g} or more"
    words = words if math.isinf(high) else f"a number from {low:g} to {high:g}"

    def checked(value: Any) -> Optional[str]:
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
        # Compared as it is: float() of a whole number of hundreds of digits raises.
        return None if right and low <= value <= high and abs(value) < 1e300 else words

    return checked


def count(low: int = 0) -> Check:
    """A whole number that a 64-bit index can hold."""
    words = f"a whole number of {low} or more"
    return lambda value: None if type(value) is int and low <= value < 1 << 63 else words


#: A share or a score.
fraction = number(0, 1)
#: (height, width) in pixels; null where the images differ.
size = optional(list_of(count(1), length=2))


def _check(where: str, value: Any, shape: Shape) -> None:
    if isinstance(shape, type):
        if not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
            raise _Wrong(where, _NAMES[shape], value)
        return
    try:
        if isinstance(shape, Mapping):
            _check_keys(value, shape)
            return
        expected = shape(value)
    except _Wrong as wrong:
        inner = wrong.where if wrong.where.startswith("[") or not where else f".{wrong.where}"
        raise _Wrong((where + inner).rstrip("."), wrong.expected, wrong.value) from None
    if expected:
        raise _Wrong(where, expected, value)


def _check_keys(value: Any, shape: Mapping[str, Any]) -> None:
    if not isinstance(value, dict):
        raise _Wrong("", "a JSON object", value)
    keys: Dict[str, Any] = {key.rstrip("?"): entry for key, entry in shape.items()}
    for key, entry in keys.items():
        if key in value:
            _check(key, value[key], entry)
        elif f"{key}?" not in shape:
            raise _Wrong(key, _NAMES.get(entry, "a value") if isinstance(entry, type) else "a value", _MISSING)
