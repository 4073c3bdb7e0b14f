"""PNG files to pixels, by the fastest decoder that is installed.

A PNG of 8-bit colors or gray levels has one right decoding, so the choice changes no pixel (tests/unit/test_decode.py):
kornia-rs takes 20 ms of a processor for a street scene of 2048x1024 where OpenCV takes 48. Everything else (palettes,
16 bits, interlaced files, other formats), and every file that kornia-rs refuses, goes to OpenCV.
"""

from __future__ import annotations

from typing import Optional

import cv2
import numpy as np

from stdc.data import codecs

#: Signature, then length and type of the first chunk, which holds width, height, bits, color type and three methods.
_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_GRAY, _COLOR = 0, 2
#: Says that some colors stand for transparent ones, which decoders treat in different ways.
_TRANSPARENCY = b"tRNS"


def decode_color(data: np.ndarray) -> Optional[np.ndarray]:
    """An image file's content, (N,) uint8, as (H, W, 3), uint8, red-green-blue; None where it is no image."""
    pixels = _decode_quickly(data, _COLOR, "rgb")
    if pixels is not None:
        return pixels
    # Ignore the EXIF orientation: the label raster has none, so turning the image would misalign the pair.
    pixels = decode_any(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def decode_ids(data: np.ndarray) -> Optional[np.ndarray]:
    """A raster's content, (N,) uint8, as (H, W) or (H, W, C) in the bits that it is stored with; None for no image."""
    pixels = _decode_quickly(data, _GRAY, "mono")
    if pixels is not None:
        return pixels[:, :, 0]
    # This flag, too, leaves an orientation tag alone.
    return decode_any(data, cv2.IMREAD_UNCHANGED)


def decode_any(data: np.ndarray, flags: int) -> Optional[np.ndarray]:
    """What OpenCV makes of a file's content, (N,) uint8; None where it is no image."""
    head = data[:24].tobytes()
    if head[:16] == _HEAD and not (any(head[16:20]) and any(head[20:24])):
        # libpng would write about a picture without pixels to the terminal.
        return None
    try:
        return None if not data.size else cv2.imdecode(data, flags)
    except cv2.error:
        # OpenCV raises for more pixels than it takes (2^30), and for kinds of files that it stops at.
        return None


def _decode_quickly(data: np.ndarray, color_type: int, mode: str) -> Optional[np.ndarray]:
    """By the fast library, (H, W, C); None where it is not there or this is none of its files."""
    head = data[:29].tobytes()
    if head[:16] != _HEAD or head[24:29] != bytes((8, color_type, 0, 0, 0)):
        return None
    content = data.tobytes()
    if _TRANSPARENCY in content[:4096]:
        return None
    width, height = (int.from_bytes(head[first : first + 4], "big") for first in (16, 20))
    return codecs.decode_quickly(content, height, width, 8, mode)
