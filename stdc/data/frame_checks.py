"""Whether the content of one frame's files is sound.

Every function returns the problems it found, one line each, so that one pass over a dataset lists all of them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from stdc.data import codecs, png
from stdc.data.labels import IGNORE, INSTANCE_LABEL_IDS, LABEL_IDS
from stdc.data.layout import IMAGE, INSTANCE_IDS, POLYGONS, READ_KINDS, Frame
from stdc.data.layout import LABEL_IDS as LABEL_IDS_KIND
from stdc.data.polygons import AnnotationError, parse_annotation, parse_document
from stdc.data.verified import MAX_FILE_BYTES
from stdc.errors import InputError, shown
from stdc.files import open_file
from stdc.units import Size, size_text

#: instanceIds = label id * 1000 + number of the object (cityscapesscripts, json2instanceImg.py).
INSTANCE_FACTOR = 1000
_VALUES_SHOWN = 5
#: cv2.calcHist counts in float32, which is exact up to here.
_EXACT_COUNTS = 1 << 24


class Checks(NamedTuple):
    """How strictly the frames of a dataset are checked.

    Args:
        source: LABEL_IDS or POLYGONS, whichever is used. Of a polygons file that is not used only the form is checked.
        official: the data must be the official ones: images of `image_size`, and every file sound, used or not.
        image_size: (height, width) of the official images.
    """

    source: str
    official: bool
    image_size: Size


class FrameReport(NamedTuple):
    """What was found in one frame.

    Args:
        size: (height, width) of the image, or None where it is not readable.
        files: path, bytes and sha256 by kind, of the files that could be read.
        problems: one line each, starting with the path.
        left_out: what is not drawn although it is there, one line each, starting with the path.
        label_ids: number of pixels by label id, where label ids are the source.
        trained_objects: objects of trained classes, where polygons are the source.
    """

    size: Optional[Size]
    files: Dict[str, Dict[str, Any]]
    problems: List[str]
    left_out: List[str]
    label_ids: Dict[int, int]
    trained_objects: int


class _Finding(NamedTuple):
    """What one file holds."""

    size: Optional[Size] = None
    problems: Tuple[str, ...] = ()
    left_out: Tuple[str, ...] = ()
    label_ids: Optional[Dict[int, int]] = None
    trained_objects: int = 0


def check_frame(root: Path, checks: Checks, frame: Frame) -> FrameReport:
    """Read, hash and decode all files of a frame."""
    report = FrameReport(None, {}, [], [], {}, 0)
    expected, because = (checks.image_size, "in the official data") if checks.official else (None, "")
    for kind in READ_KINDS:
        path = frame.files.get(kind)
        if path is None:
            continue
        try:
            data = _read(root / path)
        except ValueError as error:
            report.problems.append(f"{shown(path)}: {error}")
            continue
        except InputError as error:
            report.problems.append(f"{error}")
            continue
        except OSError as error:
            report.problems.append(f"{shown(path)}: cannot be read ({error.strerror})")
            continue
        try:
            found = _check(kind, data, checks)
        except ValueError as error:
            found = _Finding(problems=(str(error),))
        else:
            report.files[kind] = {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        problems = list(found.problems)
        if found.size is not None and expected is not None and found.size != expected:
            problems.append(f"{size_text(found.size)}, expected {size_text(expected)} as {because} (width x height)")
        report.problems.extend(f"{shown(path)}: {problem}" for problem in problems)
        report.left_out.extend(f"{shown(path)}: {what}" for what in found.left_out)
        if kind == IMAGE:
            report = report._replace(size=found.size)
            if found.size is not None:
                expected, because = found.size, "its image"
        if kind == checks.source:
            report = report._replace(label_ids=found.label_ids or {}, trained_objects=found.trained_objects)
    return report


def _check(kind: str, data: bytes, checks: Checks) -> _Finding:
    """Check one file.

    Raises:
        ValueError: it is damaged.
    """
    if kind == IMAGE:
        return check_image(data)
    if kind == LABEL_IDS_KIND:
        return check_label_ids(data)
    if kind == INSTANCE_IDS:
        return check_instance_ids(data)
    assert kind == POLYGONS
    if checks.source == POLYGONS or checks.official:
        return check_polygons(data)
    # The content is not used: that the file can be parsed tells that it is complete.
    parse_document(data)
    return _Finding()


def check_image(data: bytes) -> _Finding:
    """An 8-bit RGB picture, interlaced or not. Palette, gray, alpha and 16-bit pictures are refused.

    Decoders convert those to RGB too, but each in its own way: two machines could train on different pixels.

    Raises:
        ValueError: not a sound PNG.
    """
    return _check_kind(data, png.RGB, 8)[0]


def check_label_ids(data: bytes) -> _Finding:
    """An 8-bit gray picture with values 0..33.

    255 is refused, although some tools write it for the id -1 of `license plate`: no official raster holds it, the
    official evaluation fails on it, and it nearly always means that a raster of train ids carries the wrong name.

    Raises:
        ValueError: not a sound PNG.
    """
    finding, header = _check_kind(data, png.GRAY, 8)
    if finding.problems:
        return finding
    values = _decode(data, header)
    counts = _count(values, 256)
    allowed = np.zeros(256, bool)
    allowed[list(LABEL_IDS)] = True
    problems = _check_domain(values, counts, allowed, f"label ids {LABEL_IDS[0]} to {LABEL_IDS[-1]}")
    if problems and counts[IGNORE]:
        problems = (f"{problems[0]}; {IGNORE} is the ignored value of train ids: is this a raster of train ids?",)
    found = {int(label_id): int(counts[label_id]) for label_id in np.flatnonzero(counts)}
    return finding._replace(problems=problems, label_ids=found)


def check_instance_ids(data: bytes) -> _Finding:
    """A 16-bit gray picture: a label id, or label id * 1000 + object number for labels whose objects are told apart.

    Raises:
        ValueError: not a sound PNG.
    """
    finding, header = _check_kind(data, png.GRAY, 16)
    if finding.problems:
        return finding
    values = _decode(data, header)
    first, last = INSTANCE_LABEL_IDS[0], INSTANCE_LABEL_IDS[-1]
    # Both kinds of ids are rows without a gap, so that comparing stands for a count four times as slow.
    of_object = (values >= first * INSTANCE_FACTOR) & (values < (last + 1) * INSTANCE_FACTOR)
    if (of_object | (values <= LABEL_IDS[-1])).all():
        return finding
    allowed = np.zeros(1 << 16, bool)
    allowed[list(LABEL_IDS)] = True
    for label_id in INSTANCE_LABEL_IDS:
        allowed[label_id * INSTANCE_FACTOR : (label_id + 1) * INSTANCE_FACTOR] = True
    objects = f"{first * INSTANCE_FACTOR} to {(last + 1) * INSTANCE_FACTOR - 1}"
    expected = f"label ids {LABEL_IDS[0]} to {LABEL_IDS[-1]} or {objects}"
    return finding._replace(problems=_check_domain(values, _count(values, 1 << 16), allowed, expected))


def check_polygons(data: bytes) -> _Finding:
    """A sound annotation."""
    try:
        annotation = parse_annotation(data)
    except AnnotationError as error:
        return _Finding(problems=tuple(error.problems))
    left_out: Tuple[str, ...] = ()
    if annotation.left_out:
        left_out = (f"{annotation.left_out} objects of less than two points, of which nothing can be drawn",)
    trained = sum(polygon.train_id != IGNORE for polygon in annotation.polygons)
    return _Finding((annotation.height, annotation.width), (), left_out, None, trained)


def decode_gray(data: bytes) -> np.ndarray:
    """The values of a gray PNG as stored, (H, W) uint8 or uint16; an orientation tag turns nothing.

    Raises:
        ValueError: not a sound PNG of 8 or 16 bits.
    """
    return _decode(data, png.read_header(data))


def _decode(data: bytes, header: png.Header) -> np.ndarray:
    values = codecs.decode_gray_png(data, header.height, header.width, header.bit_depth)
    if values is None:
        raise ValueError("OpenCV cannot decode it")
    return values


def _read(path: Path) -> bytes:
    with open_file(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{size} bytes; more than {MAX_FILE_BYTES} are not supported")
        return handle.read()


def _check_kind(data: bytes, color_type: int, bit_depth: int) -> Tuple[_Finding, png.Header]:
    header = png.check_png(data)
    size = (header.height, header.width)
    if (header.color_type, header.bit_depth) == (color_type, bit_depth):
        return _Finding(size), header
    expected = header._replace(color_type=color_type, bit_depth=bit_depth).kind
    return _Finding(size, (f"{header.kind} PNG, expected {expected}",)), header


def _count(values: np.ndarray, kinds: int) -> np.ndarray:
    """How often each value from 0 to kinds - 1 occurs, (kinds,) int64."""
    if values.size > _EXACT_COUNTS:
        return np.bincount(values.ravel(), minlength=kinds)
    return cv2.calcHist([values], [0], None, [kinds], [0, kinds]).ravel().astype(np.int64)


def _check_domain(values: np.ndarray, counts: np.ndarray, allowed: np.ndarray, expected: str) -> Tuple[str, ...]:
    """One line if `values` (H, W) holds values that the table `allowed` does not."""
    wrong = np.flatnonzero((counts > 0) & ~allowed)
    if not len(wrong):
        return ()
    parts = []
    for value in wrong[:_VALUES_SHOWN]:
        row, column = divmod(int(np.argmax(values.ravel() == value)), values.shape[1])
        parts.append(f"value {value} at {counts[value]} pixels (first at row {row}, column {column})")
    if len(wrong) > _VALUES_SHOWN:
        parts.append(f"{len(wrong) - _VALUES_SHOWN} more values")
    return (f"{', '.join(parts)}; expected {expected}",)
