"""Protocols of evaluation: at which scales an image is seen, and whether mirrored too.

Two ways of scaling, each that of the figures it is compared with:

* One scale without mirroring (the paper's Seg50 and Seg75; ``evaluation.py`` of the authors' code): the image is
  resized, the logits are resized back, both with aligned corners; the largest logit is the prediction.
* Several scales or mirroring (PaddleSeg's development branch, ``core/infer.py`` since its pull request 2933): every
  scale starts from the original image, corners are not aligned, and the logits of the passes, resized back before, are
  averaged. (Version 2.7 went on from the image resized last, and averaged softmax values.)

Scale 1 is the image as it is in both.
"""

from __future__ import annotations

import math
import re
import reprlib
from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple

from stdc.errors import InputError

#: Bounds of a scale, as the schema states them.
_LEAST_SCALE, _LARGEST_SCALE = 0.1, 8.0
_MOST_PROTOCOLS = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,49}")


class Protocol(NamedTuple):
    """How images are evaluated.

    Attributes:
        name: in results and tables.
        scales: factors of the image's size, each once, ascending.
        flip: add a mirrored pass at every scale.
    """

    name: str
    scales: Tuple[float, ...]
    flip: bool


#: Whole images as they are: evaluation during training, and predictions where no protocol is named.
FULL_SIZE = Protocol("full", (1.0,), False)


class Pass(NamedTuple):
    """One run of the network on one image. Passes that protocols have in common are run once."""

    scale: float
    align_corners: bool
    flip: bool

    def scaled(self, size: Sequence[int]) -> Tuple[int, int]:
        """The size that an image of (height, width) is seen at: the authors round down, PaddleSeg to the nearest."""
        extra = 0.0 if self.align_corners else 0.5
        height, width = (max(int(length * self.scale + extra), 1) for length in size)
        return height, width


def passes_of(protocol: Protocol) -> List[Pass]:
    """The passes of a protocol, ascending."""
    if len(protocol.scales) == 1 and not protocol.flip:
        return [Pass(protocol.scales[0], protocol.scales[0] != 1.0, False)]
    flips = (False, True) if protocol.flip else (False,)
    return [Pass(scale, False, flip) for scale in sorted(protocol.scales) for flip in flips]


def read_protocols(value: Any) -> Tuple[Protocol, ...]:
    """Protocols of the configuration key `evaluate.protocols`, in its order.

    Raises:
        InputError: names the key: no list, none in it, a name given twice, or scales that are no positive factors.
    """
    where = "evaluate.protocols"
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_PROTOCOLS:
        raise InputError(
            f"{where}: {reprlib.repr(value)}; a list of 1 to {_MOST_PROTOCOLS} is expected, "
            "for example [{name: full, scales: [1.0]}]"
        )
    protocols: List[Protocol] = []
    for number, entry in enumerate(value):
        protocol = _read_protocol(f"{where}[{number}]", entry)
        if protocol.name in {other.name for other in protocols}:
            raise InputError(f"{where}[{number}].name: {protocol.name!r} is there twice")
        protocols.append(protocol)
    return tuple(protocols)


def _read_protocol(where: str, entry: Any) -> Protocol:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: {reprlib.repr(entry)}; keys are expected: name, scales, flip")
    name, scales, flip = entry.get("name"), entry.get("scales", [1.0]), entry.get("flip", False)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{where}.name: {reprlib.repr(name)}; letters, digits and ._+- are expected, at most 50")
    if not isinstance(scales, list) or not scales or not all(_is_scale(scale) for scale in scales):
        raise InputError(
            f"{where}.scales: {reprlib.repr(scales)}; factors from {_LEAST_SCALE} to {_LARGEST_SCALE:g} are expected"
        )
    if not isinstance(flip, bool):
        raise InputError(f"{where}.flip: {reprlib.repr(flip)}; true or false is expected")
    return Protocol(name, tuple(sorted({float(scale) for scale in scales})), flip)


def _is_scale(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and _LEAST_SCALE <= value <= _LARGEST_SCALE
