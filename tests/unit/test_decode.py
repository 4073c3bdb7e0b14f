"""Pixels of PNG files, the same by every decoder."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
from PIL import Image

from stdc.data import codecs, decode

PICTURE = np.random.RandomState(0).randint(0, 256, (37, 53, 3)).astype(np.uint8)
SMOOTH = (np.add.outer(np.arange(64), np.arange(96))[..., None] * np.array([1, 2, 3]) // 2 % 256).astype(np.uint8)


def content(pixels: np.ndarray, **options: Any) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.fixture(params=["kornia-rs", "OpenCV"])
def decoder(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "OpenCV":
        monkeypatch.setattr(codecs, "_kornia", None)
    elif codecs._kornia is None:
        pytest.skip("NOT COMPARED: kornia-rs is not installed")
    return str(request.param)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_pixels_are_those_that_were_stored(decoder: str, level: int) -> None:
    for pixels in (PICTURE, SMOOTH):
        for one in (pixels, pixels[..., 0]):
            data = content(np.ascontiguousarray(one), compress_level=level)
            found = decode.decode_color(data) if one.ndim == 3 else decode.decode_ids(data)
            assert found is not None and found.dtype == np.uint8 and np.array_equal(found, one)
            if one.ndim == 3:
                assert np.array_equal(decode.decode_ids(data)[..., ::-1], one), "ids are as OpenCV stores colors"
            else:
                assert np.array_equal(decode.decode_color(data), np.repeat(one[..., None], 3, axis=-1))


def test_orientation_and_color_profile_change_nothing(decoder: str) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6  # Orientation: to be turned by 90 degrees.
    for options in ({"exif": tag}, {"dpi": (72, 72)}, {"icc_profile": b"none"}):
        assert np.array_equal(decode.decode_color(content(PICTURE, **options)), PICTURE)
        assert np.array_equal(decode.decode_ids(content(PICTURE[..., 1].copy(), **options)), PICTURE[..., 1])


def test_files_of_other_kinds_are_decoded_as_they_are(decoder: str) -> None:
    wide = PICTURE[..., 0].astype(np.uint16) * 257
    assert np.array_equal(decode.decode_ids(content(wide)), wide)
    palette = Image.fromarray(PICTURE).convert("P", palette=Image.ADAPTIVE)
    file = io.BytesIO()
    palette.save(file, "PNG")
    data = np.frombuffer(file.getvalue(), np.uint8)
    assert np.array_equal(decode.decode_color(data), np.asarray(palette.convert("RGB")))
    seen_through = np.dstack((PICTURE, PICTURE[..., :1]))
    assert np.array_equal(decode.decode_color(content(seen_through)), PICTURE)
    one_color_transparent = content(PICTURE, transparency=tuple(int(level) for level in PICTURE[0, 0]))
    assert np.array_equal(decode.decode_color(one_color_transparent), PICTURE)


def png_of_size(height: int, width: int) -> np.ndarray:
    """A PNG that is sound but for its size, which nothing stands behind."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return np.frombuffer(file, np.uint8)


@pytest.mark.parametrize("size", [(0, 0), (0, 8), (8, 0), (100_000, 100_000)])
def test_a_picture_without_pixels_or_of_too_many_is_none_and_told_by_no_library(
    decoder: str, size: Tuple[int, int], capfd: pytest.CaptureFixture
) -> None:
    assert decode.decode_color(png_of_size(*size)) is None and decode.decode_ids(png_of_size(*size)) is None
    assert min(size) or capfd.readouterr().err == ""


@pytest.mark.parametrize("keep", [0, 7, 20, 30, 100])
def test_what_is_no_image_is_none(decoder: str, keep: int, tmp_path: Path) -> None:
    assert decode.decode_color(np.frombuffer(b"no image at all", np.uint8)) is None
    data = content(PICTURE)[:keep]
    if keep:
        assert decode.decode_ids(data) is None or keep == 100
