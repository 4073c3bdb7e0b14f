"""Whether the content of one frame's files is sound.

Every function returns the problems it found, one line each, so that one pass over a dataset lists all of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from stdc.data import png
from stdc.data.labels import IGNORE, INSTANCE_LABEL_IDS, LABEL_IDS
from stdc.data.layout import IMAGE, INSTANCE_IDS, POLYGONS, Frame, shown
from stdc.data.layout import LABEL_IDS as LABEL_IDS_KIND
from stdc.data.polygons import AnnotationError, parse_annotation
from stdc.data.verified import MAX_FILE_BYTES

Size = Tuple[int, int]

#: instanceIds = label id * 1000 + number of the object (cityscapesscripts, json2instanceImg.py).
INSTANCE_FACTOR = 1000
_VALUES_SHOWN = 5


class FrameReport(NamedTuple):
    """What was found in one frame.

    Args:
        size: (height, width) of the image, or None where it is not readable.
        files: path, bytes and sha256 by kind, of the files that could be read.
        problems: one line each, starting with the path.
    """

    size: Optional[Size]
    files: Dict[str, Dict[str, Any]]
    problems: List[str]


def check_frame(root: Path, frame: Frame, image_size: Optional[Size] = None) -> FrameReport:
    """Read, hash and decode all files of a frame.

    Args:
        image_size: (height, width) that the image must have; None accepts any, and the labels must follow it.
    """
    checks: Dict[str, Callable[[bytes], Tuple[Optional[Size], List[str]]]] = {
        IMAGE: check_image,
        LABEL_IDS_KIND: check_label_ids,
        INSTANCE_IDS: check_instance_ids,
        POLYGONS: check_polygons,
    }
    files: Dict[str, Dict[str, Any]] = {}
    problems: List[str] = []
    expected, because = image_size, "in the official data"
    measured: Optional[Size] = None
    for kind, check in checks.items():
        path = frame.files.get(kind)
        if path is None:
            continue
        try:
            data = _read(root / path)
            size, found = check(data)
        except OSError as error:
            problems.append(f"{shown(path)}: cannot be read ({error.strerror})")
            continue
        except ValueError as error:
            size, found = None, [str(error)]
        else:
            files[kind] = {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if size is not None and expected is not None and size != expected:
            found = [*found, f"{_shape(size)}, expected {_shape(expected)} as {because} (width x height)"]
        if kind == IMAGE:
            measured = size
            if size is not None:
                expected, because = size, "its image"
        problems += [f"{shown(path)}: {problem}" for problem in found]
    return FrameReport(measured, files, problems)


def check_image(data: bytes) -> Tuple[Optional[Size], List[str]]:
    """An 8-bit RGB picture, interlaced or not. Palette, gray, alpha and 16-bit pictures are refused.

    Decoders convert those to RGB too, but each in its own way: two machines could train on different pixels.

    Raises:
        ValueError: not a sound PNG.
    """
    return _check_kind(data, png.RGB, 8)


def check_label_ids(data: bytes) -> Tuple[Optional[Size], List[str]]:
    """An 8-bit gray picture with values 0..33.

    255 is refused, although some tools write it for the id -1 of `license plate`: no official raster holds it, the
    official evaluation fails on it, and it nearly always means that a raster of train ids carries the wrong name.

    Raises:
        ValueError: not a sound PNG.
    """
    size, problems = _check_kind(data, png.GRAY, 8)
    if not problems:
        values = decode_gray(data)
        allowed = np.zeros(256, bool)
        allowed[list(LABEL_IDS)] = True
        problems = _check_domain(values, allowed, f"label ids {LABEL_IDS[0]} to {LABEL_IDS[-1]}")
        if problems and (values == IGNORE).any():
            problems[0] += f"; {IGNORE} is the ignored value of train ids: is this a raster of train ids?"
    return size, problems


def check_instance_ids(data: bytes) -> Tuple[Optional[Size], List[str]]:
    """A 16-bit gray picture: a label id, or label id * 1000 + object number for labels whose objects are told apart.

    Raises:
        ValueError: not a sound PNG.
    """
    size, problems = _check_kind(data, png.GRAY, 16)
    if not problems:
        values = decode_gray(data)
        allowed = np.zeros(1 << 16, bool)
        allowed[list(LABEL_IDS)] = True
        for label_id in INSTANCE_LABEL_IDS:
            allowed[label_id * INSTANCE_FACTOR : (label_id + 1) * INSTANCE_FACTOR] = True
        first, last = INSTANCE_LABEL_IDS[0], INSTANCE_LABEL_IDS[-1]
        problems = _check_domain(
            values,
            allowed,
            f"label ids {LABEL_IDS[0]} to {LABEL_IDS[-1]}"
            f" or {first * INSTANCE_FACTOR} to {(last + 1) * INSTANCE_FACTOR - 1}",
        )
    return size, problems


def check_polygons(data: bytes) -> Tuple[Optional[Size], List[str]]:
    """A sound annotation."""
    try:
        annotation = parse_annotation(data)
    except AnnotationError as error:
        return None, error.problems
    return (annotation.height, annotation.width), []


def decode_gray(data: bytes) -> np.ndarray:
    """The values of a gray PNG, (H, W) uint8 or uint16.

    Raises:
        ValueError: OpenCV cannot decode it.
    """
    # The image is read as stored, so its raster is too: an orientation tag would turn one away from the other.
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if values is None:
        raise ValueError("OpenCV cannot decode it")
    return np.asarray(values)


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size} bytes; more than {MAX_FILE_BYTES} are not supported")
    return path.read_bytes()


def _check_kind(data: bytes, color_type: int, bit_depth: int) -> Tuple[Size, List[str]]:
    header = png.check_png(data)
    size = (header.height, header.width)
    if (header.color_type, header.bit_depth) == (color_type, bit_depth):
        return size, []
    return size, [f"{header.kind} PNG, expected {header._replace(color_type=color_type, bit_depth=bit_depth).kind}"]


def _check_domain(values: np.ndarray, allowed: np.ndarray, expected: str) -> List[str]:
    """One line if `values` (H, W) holds values that the table `allowed` does not."""
    counts = np.bincount(values.ravel(), minlength=len(allowed))
    wrong = np.flatnonzero((counts > 0) & ~allowed)
    if not len(wrong):
        return []
    parts = []
    for value in wrong[:_VALUES_SHOWN]:
        row, column = divmod(int(np.argmax(values.ravel() == value)), values.shape[1])
        parts.append(f"value {value} at {counts[value]} pixels (first at row {row}, column {column})")
    if len(wrong) > _VALUES_SHOWN:
        parts.append(f"{len(wrong) - _VALUES_SHOWN} more values")
    return [f"{', '.join(parts)}; expected {expected}"]


def _shape(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
