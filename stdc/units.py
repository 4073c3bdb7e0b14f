"""Quantities as people read them. Sizes are written width x height, as in the recipes' names."""

from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

#: (height, width) of an image, in pixels; only texts name the width first.
Size = Tuple[int, int]


def size_text(size: Optional[Sequence[int]]) -> str:
    """Pixels of an image of (height, width) as "1024x512", width first; "unequal sizes" for None."""
    return "unequal sizes" if size is None else f"{size[1]}x{size[0]}"


def bytes_text(count: float) -> str:
    """Bytes as "1.5 GB" or "36 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def counted(count: int, noun: str) -> str:
    """A number of things as "1 device" or "8 devices"."""
    return f"{count} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def clock_text(seconds: float) -> str:
    """Seconds, rounded up, as h:mm:ss."""
    whole = math.ceil(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
