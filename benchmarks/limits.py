"""What this machine can do at best, measured in the same run: matrix product, copy, inflate. One thread, CPU time."""

from __future__ import annotations

import zlib
from typing import List

import numpy as np
from rows import Bench, Row, timed

_SIZE = 2048
_COPY_BYTES = 1 << 28


def machine(bench: Bench) -> List[Row]:
    generator = np.random.RandomState(0)
    left, right = (generator.standard_normal((_SIZE, _SIZE)).astype(np.float32) for _ in range(2))
    product_s = min(timed(lambda: left @ right, bench.rounds))
    source, target = np.ones(_COPY_BYTES, np.uint8), np.zeros(_COPY_BYTES, np.uint8)
    copy_s = min(timed(lambda: np.copyto(target, source), bench.rounds))
    image = sorted(bench.frames.glob("leftImg8bit/train/*/*.png"))[0].read_bytes()
    packed = b"".join(_idat(image))
    raw = zlib.decompress(packed)
    made = [
        Row(
            f"float32 matrix product, {_SIZE} x {_SIZE}, NumPy",
            "ms of CPU",
            ours=1000 * product_s,
            note=f"{2 * _SIZE**3 / product_s / 1e9:.0f} GFLOP/s",
        ),
        Row(
            "copy of 268 MB",
            "ms of CPU",
            ours=1000 * copy_s,
            note=f"{2 * _COPY_BYTES / copy_s / 1e9:.1f} GB/s read and written",
        ),
        Row(
            "inflate of one image, zlib",
            "ms of CPU",
            ours=1000 * min(timed(lambda: zlib.decompress(packed), bench.rounds)),
        ),
    ]
    try:
        from isal import isal_zlib
    except ImportError:
        return made
    inflate_s = min(timed(lambda: isal_zlib.decompress(packed), bench.rounds))
    note = f"file of {len(image) / 1e6:.1f} MB, {len(raw) / 1e6:.1f} MB of pixels"
    return [*made, Row("inflate of one image, isal", "ms of CPU", ours=1000 * inflate_s, note=note)]


def _idat(content: bytes) -> List[bytes]:
    parts, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] == b"IDAT":
            parts.append(content[place + 8 : place + 8 + size])
        place += 12 + size
    return parts


PARTS = (machine,)
