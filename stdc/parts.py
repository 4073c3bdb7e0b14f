"""Parts of a configuration: frozen dataclasses whose every value is in its range, or they do not come to be.

A field is declared with its bounds (`number`, `word`, `flag`, `channels`), and a `Part` checks them when it is built.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from typing import Any, ClassVar, Mapping, Optional, Sequence, Type, TypeVar

from stdc.errors import InputError


def number(
    least: Optional[float] = None,
    most: Optional[float] = None,
    *,
    above: Optional[float] = None,
    below: Optional[float] = None,
    whole: bool = False,
    or_word: str = "",
    default: Any = dataclasses.MISSING,
) -> Any:
    """A field that holds one number: bounds that belong to the range, bounds that do not, and a word allowed too."""
    bounds = {"minimum": least, "maximum": most, "exclusiveMinimum": above, "exclusiveMaximum": below}
    return dataclasses.field(default=default, metadata={"kind": "number", "whole": whole, "word": or_word, **bounds})


def word(*known: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that holds one of some words."""
    return dataclasses.field(default=default, metadata={"kind": "word", "known": known})


def flag(default: Any = dataclasses.MISSING) -> Any:
    """A field that holds true or false."""
    return dataclasses.field(default=default, metadata={"kind": "flag"})


def channels(*, above: Optional[float] = None) -> Any:
    """A field that holds three numbers up to 1, of red, green and blue."""
    bounds = {"minimum": 0.0 if above is None else None, "maximum": 1.0, "exclusiveMinimum": above}
    return dataclasses.field(metadata={"kind": "channels", "whole": False, "exclusiveMaximum": None, **bounds})


@dataclasses.dataclass(frozen=True)
class Part:
    """Base of the parts: every value is in the range of its field, or the part does not come to be.

    Raises:
        InputError: names the key of the first value that is not.
    """

    section: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["kind"] == "channels" and isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            expected = _unmet(value, field.metadata)
            if expected:
                raise InputError(f"{self.section}.{field.name}: {reprlib.repr(value)}; {expected} is expected")
        problem = self.contradiction()
        if problem:
            raise InputError(f"{self.section}.{problem}")

    def contradiction(self) -> Optional[str]:
        """What is wrong with two values together, beginning with the key to change; None where nothing is."""
        return None


AnyPart = TypeVar("AnyPart", bound=Part)


def part_of(part: Type[AnyPart], section: Mapping[str, Any]) -> AnyPart:
    """One part from a section of the configuration; keys of other parts are left alone.

    Raises:
        InputError: a key is missing, or see `resolve`.
    """
    if not isinstance(section, Mapping):
        raise InputError(f"{part.section}: {reprlib.repr(section)}; a section with keys is expected")
    values = {}
    for field in dataclasses.fields(part):
        value = section.get(field.name)
        if value is not None:
            values[field.name] = value
        elif field.default is dataclasses.MISSING:
            raise InputError(f"{part.section}.{field.name}: missing")
    return part(**values)


# ---- one value against its field


def _unmet(value: Any, metadata: Mapping[str, Any]) -> Optional[str]:
    """What a field expects and `value` is not; None where it is."""
    if metadata["kind"] == "flag":
        return None if isinstance(value, bool) else "true or false"
    if metadata["kind"] == "word":
        known: Sequence[str] = metadata["known"]
        return None if isinstance(value, str) and value in known else f"one of {', '.join(known)}"
    if metadata["kind"] == "channels":
        good = isinstance(value, tuple) and len(value) == 3 and all(_is_within(one, metadata) for one in value)
        return None if good else f"three numbers {_range(metadata)}, of red, green and blue,"
    word = metadata["word"]
    if _is_within(value, metadata) or (word and value == word):
        return None
    kind = "a whole number" if metadata["whole"] else "a number"
    return f"{kind} {_range(metadata)}{f' or {word!r}' if word else ''}"


#: Whole numbers beyond this do not fit into the 64 bits that arrays count with.
_LARGEST = 1 << 62


def _is_within(value: Any, metadata: Mapping[str, Any]) -> bool:
    # A boolean is an int to Python, and would be taken for 0 or 1.
    if type(value) is not int and (metadata["whole"] or type(value) is not float or not math.isfinite(value)):
        return False
    if abs(value) > _LARGEST:
        return False
    least, most = metadata["minimum"], metadata["maximum"]
    above, below = metadata["exclusiveMinimum"], metadata["exclusiveMaximum"]
    return (
        (least is None or value >= least)
        and (most is None or value <= most)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _range(metadata: Mapping[str, Any]) -> str:
    least, most = metadata["minimum"], metadata["maximum"]
    above, below = metadata["exclusiveMinimum"], metadata["exclusiveMaximum"]
    lower = f"above {above:g}" if above is not None else f"from {least:g}"
    if below is not None:
        return f"{lower} to below {below:g}"
    return lower if most is None else f"{lower} to {most:g}"
