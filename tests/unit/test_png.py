from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from stdc.data.png import MAX_PIXELS, SIGNATURE, PngError, check_png, encode_gray


def save(pixels, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def build(width, height, raw, depth=8, color=0, interlace=0, extra=b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return SIGNATURE + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


GRAY = np.arange(60, dtype=np.uint8).reshape(6, 10)
RGB = np.arange(180, dtype=np.uint8).reshape(6, 10, 3)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (save(GRAY), "8-bit gray"),
        (save(RGB), "8-bit RGB"),
        (save(np.dstack([RGB, GRAY])), "8-bit RGBA"),
        (save(GRAY.astype(np.uint16)), "16-bit gray"),
        (save(GRAY > 3), "1-bit gray"),
    ],
)
def test_sound_pictures_pass_and_say_what_they_are(data, kind):
    header = check_png(data)
    assert (header.height, header.width, header.kind, header.interlaced) == (6, 10, kind, False)


def test_palette_picture_says_so():
    buffer = io.BytesIO()
    Image.fromarray(GRAY).convert("P").save(buffer, "PNG")
    assert check_png(buffer.getvalue()).kind == "8-bit palette"


def test_interlaced_picture_passes():
    # Adam7 by the book: pixel (row, column) belongs to the pass of its place in the 8x8 pattern.
    pattern = np.array(
        [
            [1, 6, 4, 6, 2, 6, 4, 6],
            [7] * 8,
            [5, 6, 5, 6, 5, 6, 5, 6],
            [7] * 8,
            [3, 6, 4, 6, 3, 6, 4, 6],
            [7] * 8,
            [5, 6, 5, 6, 5, 6, 5, 6],
            [7] * 8,
        ]
    )
    passes = np.tile(pattern, (2, 2))[:6, :10]
    raw = b""
    for number in range(1, 8):
        for row in range(6):
            inside = passes[row] == number
            if inside.any():
                raw += b"\0" + GRAY[row][inside].tobytes()
    data = build(10, 6, raw, interlace=1)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), GRAY)
    assert check_png(data).interlaced
    with pytest.raises(PngError):
        check_png(build(10, 6, raw[:-1], interlace=1))


def test_every_truncation_is_found():
    data = save(RGB)
    for length in range(len(data)):
        with pytest.raises(PngError):
            check_png(data[:length])


def test_every_changed_byte_is_found():
    data = save(RGB)
    for position in range(len(data)):
        with pytest.raises(PngError):
            check_png(data[:position] + bytes([data[position] ^ 0x20]) + data[position + 1 :])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<html>", "web page"),
        (b"\0" * 500, "only zero bytes"),
        (b"hello world", "it starts with b'hello wo'"),
        (save(GRAY)[:-12], "no end mark"),
        (save(GRAY)[:60], "cut off at byte 60"),
        (build(10, 6, bytes(66)[:-11]), "end after 55 of 66 bytes"),
        (build(10, 6, bytes(77)), "more than the 66 bytes"),
        (build(10, 6, b"\x05" + bytes(65)), "row filter 5 does not exist"),
        (build(10, 6, bytes(66), depth=3), "impossible picture header"),
        (build(10, 6, bytes(66), color=1), "impossible picture header"),
        (build(0, 6, b""), "impossible size 0x6"),
        (build(100_000, 100_000, b""), f"more than {MAX_PIXELS} are not supported"),
        (build(10, 6, bytes(66), color=3), "without a palette"),
        (build(10, 6, bytes(66), extra=chunk(b"CgBI", b"")), "unknown critical chunk 'CgBI'"),
        (SIGNATURE + chunk(b"IEND", b""), "no picture header"),
        (SIGNATURE + save(GRAY)[8:33] + chunk(b"IEND", b""), "no image data"),
    ],
)
def test_unsound_bytes_are_explained(data, said):
    with pytest.raises(PngError, match=said):
        check_png(data)


def test_bomb_is_not_inflated():
    bomb = build(10, 6, bytes(30_000_000))
    assert len(bomb) < 40_000
    tracemalloc.start()
    try:
        with pytest.raises(PngError, match="more than the 66 bytes"):
            check_png(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_stream_without_its_checksum_is_found():
    sound = save(GRAY)
    start = sound.index(b"IDAT") - 4
    length = struct.unpack_from(">I", sound, start)[0]
    body = sound[start + 8 : start + 8 + length]
    assert check_png(sound[:start] + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    with pytest.raises(PngError, match="end after 66 of 66 bytes"):
        check_png(sound[:start] + chunk(b"IDAT", body[:-4]) + chunk(b"IEND", b""))


def test_encoded_raster_reads_back_in_two_libraries():
    generator = np.random.default_rng(1)
    for shape in ((1, 1), (1, 9), (7, 1), (33, 65)):
        pixels = generator.integers(0, 256, shape).astype(np.uint8)
        data = encode_gray(pixels)
        assert check_png(data).kind == "8-bit gray"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
        assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), pixels)
        assert encode_gray(pixels.copy(order="F")) == data


def test_encoder_refuses_other_types():
    with pytest.raises(TypeError, match="int64, expected uint8"):
        encode_gray(np.zeros((2, 2), np.int64))


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT"])
def test_animation_is_refused_because_decoders_show_different_pictures(kind):
    sound = encode_gray(np.zeros((3, 4), np.uint8))
    start = sound.index(b"IDAT") - 4
    with pytest.raises(PngError, match=f"an animated PNG .{kind.decode()} chunk"):
        check_png(sound[:start] + chunk(kind, bytes(8)) + sound[start:])
