"""PNG files down to the byte: a strict check, and a fast writer for label rasters.

Image libraries are lenient in ways that hurt here: they skip checksums, fill what is missing with gray, and turn one
kind of picture into another. W3C, "Portable Network Graphics (PNG) Specification", third edition.
"""

from __future__ import annotations

import struct
from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from stdc.data import codecs

SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: A picture of more pixels would take gigabytes in training; the largest here is 2048x1024.
MAX_PIXELS = 100_000_000

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
_COLOR_NAMES = {GRAY: "gray", RGB: "RGB", PALETTE: "palette", GRAY_ALPHA: "gray+alpha", RGBA: "RGBA"}
_DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGBA: (8, 16)}
#: Adam7: first column, first row, column step, row step of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ANIMATION = ("acTL", "fcTL", "fdAT")
_FILTER_UP = 2
_LAST_FILTER = 4


class PngError(ValueError):
    """The bytes are not a whole, sound PNG; the text says why."""


class Header(NamedTuple):
    """What the IHDR chunk says."""

    height: int
    width: int
    bit_depth: int
    color_type: int
    interlaced: bool

    @property
    def kind(self) -> str:
        """For example `8-bit RGB`."""
        return f"{self.bit_depth}-bit {_COLOR_NAMES[self.color_type]}"


def check_png(data: bytes) -> Header:
    """Verify every checksum and inflate every row.

    What passes can be decoded: the one step left to a decoder, undoing the row filters, cannot fail.

    Raises:
        PngError: no PNG, truncated, damaged, or too large.
    """
    chunks = _chunks(data)
    header = _header(chunks[0])
    packed: List[bytes] = []
    previous = "IHDR"
    for kind, body in chunks[1:]:
        if kind == "IDAT":
            if packed and previous != "IDAT":
                raise PngError("image data chunks are not in one run")
            packed.append(body)
        elif kind in _ANIMATION:
            # Decoders differ in which of its pictures they show, and OpenCV in whether it shows any.
            raise PngError(f"an animated PNG ({kind} chunk); expected a still picture")
        elif kind[0].isupper() and kind not in ("PLTE", "IEND"):
            raise PngError(f"unknown critical chunk {kind!r}: not a plain PNG")
        previous = kind
    if not packed:
        raise PngError("no image data (IDAT)")
    if header.color_type == PALETTE and not any(kind == "PLTE" for kind, _ in chunks):
        raise PngError("palette picture without a palette (PLTE)")
    _check_rows(header, b"".join(packed))
    return header


def _chunks(data: bytes) -> List[Tuple[str, bytes]]:
    if not data.startswith(SIGNATURE):
        raise PngError(f"not a PNG: {_guess(data)}")
    view = memoryview(data)
    chunks: List[Tuple[str, bytes]] = []
    position = len(SIGNATURE)
    while position < len(data):
        if position + 12 > len(data):
            raise PngError(f"cut off at byte {len(data)}, inside the head of a chunk")
        length, raw_kind = struct.unpack_from(">I4s", data, position)
        kind = raw_kind.decode("latin-1")
        if not (kind.isascii() and kind.isalpha()):
            raise PngError(f"damaged at byte {position + 4}: {raw_kind!r} is no chunk name")
        end = position + 12 + length
        if end > len(data):
            raise PngError(f"cut off at byte {len(data)}: the {kind} chunk at byte {position} ends at byte {end}")
        (expected,) = struct.unpack_from(">I", data, end - 4)
        if codecs.crc32(view[position + 4 : end - 4]) != expected:
            raise PngError(f"damaged: checksum (CRC) of the {kind} chunk at byte {position} is wrong")
        chunks.append((kind, data[position + 8 : end - 4]))
        if kind == "IEND":
            return chunks
        position = end
    raise PngError(f"cut off at byte {len(data)}: no end mark (IEND)")


def _guess(data: bytes) -> str:
    if not data:
        return "the file is empty"
    known = {
        b"\xff\xd8\xff": "JPEG data",
        b"version https://git-lfs": "a Git LFS pointer instead of the file",
        b"<": "a web page, perhaps an error page saved by a download",
        b"PK\x03\x04": "a zip archive",
        b"BM": "BMP data",
        b"II*\0": "TIFF data",
        b"MM\0*": "TIFF data",
        b"RIFF": "WebP data",
    }
    for start, name in known.items():
        if data.startswith(start):
            return name
    if not data.strip(b"\0"):
        return "only zero bytes, as a broken download or file system leaves"
    return f"it starts with {data[:8]!r}"


def read_header(data: bytes) -> Header:
    """The header of a PNG, without a look at the rest.

    Raises:
        PngError: no PNG, or an impossible header.
    """
    if not data.startswith(SIGNATURE):
        raise PngError(f"not a PNG: {_guess(data)}")
    return _header((data[12:16].decode("latin-1"), data[16:29]))


def _header(chunk: Tuple[str, bytes]) -> Header:
    kind, body = chunk
    if kind != "IHDR" or len(body) != 13:
        raise PngError("the first chunk is no picture header (IHDR)")
    width, height, bit_depth, color_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if bit_depth not in _DEPTHS.get(color_type, ()) or compression or filtering or interlace > 1:
        raise PngError(f"impossible picture header {tuple(body[8:])}")
    if not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
        raise PngError(f"impossible size {width}x{height}")
    if width * height > MAX_PIXELS:
        raise PngError(f"{width}x{height} pixels; more than {MAX_PIXELS} are not supported")
    return Header(height, width, bit_depth, color_type, bool(interlace))


def _check_rows(header: Header, packed: bytes) -> None:
    parts = []
    for column, row, column_step, row_step in _PASSES if header.interlaced else ((0, 0, 1, 1),):
        width = -(-(header.width - column) // column_step)
        height = -(-(header.height - row) // row_step)
        if width > 0 and height > 0:
            bits = width * header.bit_depth * _CHANNELS[header.color_type]
            parts.append((height, 1 + (bits + 7) // 8))
    expected = sum(height * row_bytes for height, row_bytes in parts)
    try:
        raw, ended = codecs.inflate(packed, expected + 1)
    except codecs.INFLATE_ERRORS as error:
        raise PngError(f"damaged image data ({error})") from None
    if len(raw) > expected:
        raise PngError(f"image data hold more than the {expected} bytes of a picture of this size")
    if len(raw) < expected or not ended:
        raise PngError(f"image data end after {len(raw)} of {expected} bytes, or without their checksum")
    start = 0
    for height, row_bytes in parts:
        filters = np.frombuffer(raw, np.uint8, height * row_bytes, start)[::row_bytes]
        if filters.max() > _LAST_FILTER:
            raise PngError(f"damaged image data: row filter {filters.max()} does not exist")
        start += height * row_bytes


def encode_gray(pixels: np.ndarray) -> bytes:
    """A PNG of `pixels`, (H, W) uint8; equal pixels give equal bytes with the same libraries (`codecs`).

    Label rasters repeat the row above: the "up" filter leaves runs of zeros, which pack several times faster than
    Pillow's default.
    """
    height, width = pixels.shape
    if pixels.dtype != np.uint8:
        raise TypeError(f"pixels are {pixels.dtype}, expected uint8")
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = pixels[0]
    # One long difference and one copy take half of what a difference per row does.
    values = pixels.reshape(-1)
    rows[1:, 1:] = (values[width:] - values[:-width]).reshape(height - 1, width)
    packed = codecs.deflate_runs(rows)
    head = struct.pack(">IIBBBBB", width, height, 8, GRAY, 0, 0, 0)
    parts: Dict[bytes, bytes] = {b"IHDR": head, b"IDAT": packed, b"IEND": b""}
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", codecs.crc32(kind + body))
        for kind, body in parts.items()
    )
