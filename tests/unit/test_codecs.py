"""The fast libraries and their stand-ins give the same pixels."""

from __future__ import annotations

import io
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from stdc.data import codecs, png
from stdc.data.polygons import AnnotationError, parse_annotation


@pytest.fixture(params=["fast", "plain"])
def libraries(request, monkeypatch):
    """With the optional libraries, or as where they are not installed."""
    if request.param == "plain":
        monkeypatch.setattr(codecs, "_isal", None)
        monkeypatch.setattr(codecs, "_kornia", None)
        monkeypatch.setattr(codecs, "_orjson", None)
        monkeypatch.setattr(codecs, "_inflating", zlib)
    elif None in (codecs._isal, codecs._kornia, codecs._orjson):
        pytest.skip("FAST LIBRARIES NOT INSTALLED: isal, kornia-rs, or orjson is missing")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


EXTRA = {
    "plain": b"",
    "turned by 180 degrees": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"),
    "transparent color": chunk(b"tRNS", b"\0\x07"),
    "gamma": chunk(b"gAMA", struct.pack(">I", 10000)),
    "significant bits": chunk(b"sBIT", b"\x03"),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", EXTRA.values(), ids=list(EXTRA))
def test_gray_is_decoded_as_stored(libraries, dtype, extra):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (13, 9)).astype(dtype)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    data = buffer.getvalue()
    start = data.index(b"IDAT") - 4
    decoded = codecs.decode_gray_png(data[:start] + extra + data[start:], 13, 9, 8 * dtype().itemsize)
    assert decoded.dtype == dtype
    assert np.array_equal(decoded, values)


def test_label_raster_reads_back_in_every_library(libraries):
    ids = np.random.default_rng(1).choice([0, 7, 18, 255], (40, 70)).astype(np.uint8)
    ids[10:30] = ids[10]
    data = png.encode_gray(ids)
    assert png.check_png(data).kind == "8-bit gray"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), ids)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), ids)
    assert np.array_equal(codecs.decode_gray_png(data, 40, 70, 8), ids)


def test_checksum_equals_zlib(libraries):
    data = bytes(range(256)) * 9
    assert codecs.crc32(data) == zlib.crc32(data)
    assert codecs.crc32(data[100:], codecs.crc32(data[:100])) == zlib.crc32(data)


def test_inflating_stops_at_the_limit_and_tells_whether_the_stream_ended(libraries):
    packed = zlib.compress(b"x" * 1000)
    assert codecs.inflate(packed, 1001) == (b"x" * 1000, True)
    assert codecs.inflate(packed, 10)[0] == b"x" * 10
    assert codecs.inflate(packed[:-2], 1001) == (b"x" * 1000, False)
    for damaged in (b"no zlib", packed[:-1] + bytes([packed[-1] ^ 1])):
        with pytest.raises(codecs.INFLATE_ERRORS):
            codecs.inflate(damaged, 1001)


def test_panic_of_a_library_leaves_the_file_to_opencv(monkeypatch):
    class Panic(BaseException):
        pass

    class Library:
        @staticmethod
        def decode_image_png_u8(data, size, mode):
            raise Panic

    monkeypatch.setattr(codecs, "_kornia", Library)
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(codecs.decode_gray_png(png.encode_gray(ids), 3, 4, 8), ids)


ANNOTATION = b'{"imgHeight": 4, "imgWidth": 5, "objects": [{"label": "car", "polygon": [%s, [1.5, 2], [3, 4]]}]}'


@pytest.mark.parametrize("point", [b"[0, 0]", b"[0.25, -1]", b"[1e2, 3]"])
def test_annotation_is_the_same_with_every_reader(libraries, point):
    (polygon,) = parse_annotation(ANNOTATION % point).polygons
    assert polygon.points == [*json.loads(point), 1.5, 2, 3, 4]


@pytest.mark.parametrize("point", [b"[NaN, 1]", b"[Infinity, 1]", b"[1e999, 1]", b"[true, 1]", b'["1", 1]', b"[1, 1"])
def test_bad_annotation_is_refused_by_every_reader(libraries, point):
    with pytest.raises(AnnotationError, match=r"expected two finite numbers|no whole JSON document"):
        parse_annotation(ANNOTATION % point)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"imgHeight": ' + b"9" * 5000 + b"}", b"null", b"\xff"])
def test_document_that_is_no_annotation_is_refused_by_every_reader(libraries, data):
    with pytest.raises(AnnotationError):
        parse_annotation(data)
