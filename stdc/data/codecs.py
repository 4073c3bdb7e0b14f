"""Faster libraries where they are installed, and what stands in for them where they are not.

`isal` inflates, deflates, and sums up several times faster than zlib; `kornia-rs` decodes PNG files faster than OpenCV;
`orjson` parses faster than json. All give the same values as their stand-ins. Only a deflated stream differs in its
bytes, not in what it holds.
"""

from __future__ import annotations

import zlib
from typing import Any, Optional, Tuple, Type

import cv2
import numpy as np

_isal: Any
_kornia: Any
try:
    from isal import isal_zlib as _isal
except ImportError:
    _isal = None
try:
    from kornia_rs import io as _kornia
except ImportError:
    _kornia = None
_orjson: Any
try:
    import orjson as _orjson
except ImportError:
    _orjson = None

_inflating: Any = _isal or zlib
#: What `inflate` raises.
INFLATE_ERRORS: Tuple[Type[Exception], ...] = (zlib.error, *((_isal.error,) if _isal else ()))
#: isal's level 2 takes as long and gains nothing on label rasters; 0 grows them by a third.
_ISAL_LEVEL = 1
_ZLIB_LEVEL = 6
_ZLIB_MEMORY_LEVEL = 9


def crc32(data: Any, value: int = 0) -> int:
    """The CRC-32 of bytes, continued from `value`."""
    return int(_inflating.crc32(data, value))


def inflate(packed: bytes, limit: int) -> Tuple[bytes, bool]:
    """Unpack a zlib stream.

    Args:
        limit: bytes after which to stop, so that a small file cannot fill the memory.
    Returns:
        At most `limit` bytes, and whether the stream ended there with a correct checksum.
    Raises:
        INFLATE_ERRORS: the stream is damaged.
    """
    inflater = _inflating.decompressobj()
    raw = inflater.decompress(packed, limit)
    return raw, bool(inflater.eof)


def deflate_runs(data: Any) -> bytes:
    """A zlib stream of bytes that mostly repeat the one before, such as a label raster less the row above."""
    if _isal:
        return bytes(_isal.compress(data, _ISAL_LEVEL))
    packer = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _ZLIB_MEMORY_LEVEL, zlib.Z_RLE)
    return packer.compress(data) + packer.flush()


def decode_quickly(data: bytes, height: int, width: int, bit_depth: int, mode: str) -> Optional[np.ndarray]:
    """The pixels of a PNG by kornia-rs, (H, W, C); None where that is not installed or does not take the file.

    Args:
        height, width, bit_depth: as the header says.
        mode: "mono" or "rgb", as the header says too.
    """
    if _kornia is None:
        return None
    decode = _kornia.decode_image_png_u8 if bit_depth == 8 else _kornia.decode_image_png_u16
    try:
        values = np.asarray(decode(data, (height, width), mode))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        # A panic of the library is no Exception. Whatever it does not take, OpenCV may.
        return None
    return values if values.shape == (height, width, 1 if mode == "mono" else 3) else None


def decode_gray_png(data: bytes, height: int, width: int, bit_depth: int) -> Optional[np.ndarray]:
    """The values of a sound gray PNG as stored, (H, W) uint8 or uint16; None where it cannot be decoded.

    An orientation tag, a gamma value, or a transparent color changes no value.

    Args:
        height, width, bit_depth: as the header says; 8 or 16 bits.
    """
    values = decode_quickly(data, height, width, bit_depth, "mono")
    if values is not None:
        return values[:, :, 0]
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if decoded is None else np.asarray(decoded)


def parse_json(data: bytes) -> Any:
    """The value of a JSON document; None where the standard library has to read it, or to tell what is wrong."""
    if _orjson is None:
        return None
    try:
        return _orjson.loads(data)
    except _orjson.JSONDecodeError:
        return None
