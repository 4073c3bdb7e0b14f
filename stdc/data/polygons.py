"""Polygon annotations: a strict reader, and the rasters that cityscapesscripts draws from them.

Drawn as cityscapesscripts' preparation/json2labelImg.py does, with Pillow, pixel for pixel; two points give a line.
Pillow's own rasterization changed between versions (two to a dozen pixels per image), so the version in use is recorded
beside the rasters.
"""

from __future__ import annotations

import difflib
import json
import math
import reprlib
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image, ImageDraw

from stdc.data import codecs
from stdc.data.labels import LABEL_BY_NAME, find_label

#: The largest official file has less than a megabyte.
MAX_BYTES = 32 << 20
#: Pixels; official polygons leave the picture by a few. Pillow's integers overflow at 2^31.
MAX_COORDINATE = 1_000_000
_MAX_INTEGER_DIGITS = 20
#: Pillow draws nothing of fewer points, and the official script stops.
_MIN_POINTS = 2
#: The rest is summed up: a file with many mistakes usually has one cause.
_PROBLEMS_SHOWN = 10

# Bounded in length and depth, unlike repr().
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


class AnnotationError(ValueError):
    """The file is not a sound annotation.

    Args:
        problems: one line each.
    """

    def __init__(self, problems: List[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Polygon(NamedTuple):
    """One object that is drawn.

    Args:
        train_id: 0..18 or 255.
        points: x0, y0, x1, y1, … in pixels, as in the file.
    """

    train_id: int
    points: List[float]


class Annotation(NamedTuple):
    """Size of the picture and the objects to draw, in order: later ones cover earlier ones.

    Args:
        left_out: objects of less than two points, of which nothing can be drawn.
    """

    height: int
    width: int
    polygons: List[Polygon]
    left_out: int = 0


def parse_annotation(data: bytes) -> Annotation:
    """Read the content of a `*_gtFine_polygons.json`.

    Deleted objects and labels without an id (`license plate`) are left out, as they are not drawn.

    Raises:
        AnnotationError: no JSON, unknown label names, or a geometry that cannot be drawn; lists all of these.
    """
    document = parse_document(data)
    problems: List[str] = []
    size = []
    for key in ("imgHeight", "imgWidth"):
        value = document.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            problems.append(f"{key} is {_brief(value)}, expected a positive integer")
            value = 0
        size.append(value)
    polygons: List[Polygon] = []
    left_out = 0
    unknown: Dict[str, int] = {}
    for index, item in enumerate(document["objects"]):
        if not isinstance(item, dict) or not isinstance(item.get("label"), str):
            problems.append(f"object {index} has no label")
            continue
        if item.get("deleted"):
            continue
        label = find_label(item["label"])
        if label is None:
            unknown[item["label"]] = unknown.get(item["label"], 0) + 1
        elif label.id >= 0:
            points = item.get("polygon")
            if isinstance(points, list) and len(points) < _MIN_POINTS:
                left_out += 1
                continue
            flat = _flat(points)
            if flat is None:
                flat, problem = _checked_points(points)
                if problem:
                    problems.append(f"object {index} ({item['label']}): {problem}")
            polygons.append(Polygon(label.trainId, flat))
    problems += [_unknown_name(name, count) for name, count in sorted(unknown.items())[: _PROBLEMS_SHOWN + 1]]
    if problems:
        if len(problems) > _PROBLEMS_SHOWN:
            problems[_PROBLEMS_SHOWN:] = ["and more of the kind"]
        raise AnnotationError(problems)
    return Annotation(size[0], size[1], polygons, left_out)


def parse_document(data: bytes) -> Dict[str, Any]:
    """The JSON object of a `*_gtFine_polygons.json`, of which nothing but the list of objects is checked.

    Raises:
        AnnotationError: no JSON, or no annotation.
    """
    document = _parse_json(data)
    if not isinstance(document, dict) or not isinstance(document.get("objects"), list):
        raise AnnotationError(["no annotation: expected an object with imgHeight, imgWidth and a list of objects"])
    return document


def draw_train_ids(annotation: Annotation) -> np.ndarray:
    """The train id of every pixel, (H, W) uint8; 255 where nothing is drawn."""
    size = (annotation.width, annotation.height)
    train_ids = np.full(size[::-1], LABEL_BY_NAME["unlabeled"].trainId, np.uint8)
    # Pillow draws into the array itself: a copy of the picture takes half as long as drawing it.
    picture = Image.frombuffer("L", size, train_ids, "raw", "L", 0, 1)
    picture.readonly = 0
    drawer = ImageDraw.Draw(picture)
    for polygon in annotation.polygons:
        drawer.polygon(polygon.points, fill=polygon.train_id)
    if picture.readonly or not _shares_memory(picture, drawer, train_ids):
        # This Pillow has drawn into a copy of its own, so the picture is taken from there.
        return np.asarray(picture)
    return train_ids


def _shares_memory(picture: Image.Image, drawer: ImageDraw.ImageDraw, pixels: np.ndarray) -> bool:
    """Whether a pixel drawn in the picture is one of the array; leaves both as they were."""
    value = int(pixels[0, 0])
    before = picture.getpixel((0, 0))
    drawer.point((0, 0), fill=value ^ 1)
    shared = int(pixels[0, 0]) == value ^ 1
    drawer.point((0, 0), fill=before)
    return shared


def _parse_json(data: bytes) -> Any:
    if not data:
        raise AnnotationError(["the file is empty"])
    if len(data) > MAX_BYTES:
        raise AnnotationError([f"{len(data)} bytes; more than {MAX_BYTES} are not supported"])
    document = codecs.parse_json(data)
    if document is not None:
        return document
    try:
        # Editors of some systems put a byte order mark in front, which is no part of JSON.
        return json.loads(data.decode("utf-8-sig"), parse_int=_integer)
    except UnicodeDecodeError as error:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise AnnotationError(["UTF-16 text; save it as UTF-8"]) from None
        raise AnnotationError([f"no JSON: byte {error.start} is not UTF-8"]) from None
    except RecursionError:
        raise AnnotationError(["JSON nested too deeply"]) from None
    except ValueError as error:
        raise AnnotationError([f"no whole JSON document ({error})"]) from None


def _integer(digits: str) -> int:
    # Python takes quadratic time to read a whole number of many digits.
    if len(digits) > _MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _flat(value: Any) -> Optional[List[float]]:
    """Coordinates of a sound polygon in one list; None if anything is wrong with it. Made for speed."""
    try:
        flat = [coordinate for x, y in value for coordinate in (x, y)]
        sound = set(map(type, value)) == {list} and set(map(type, flat)) <= {int, float}
        # If one coordinate is not a number, neither is the sum, so one test finds it.
        sound = sound and min(flat) >= -MAX_COORDINATE and max(flat) <= MAX_COORDINATE and math.isfinite(sum(flat))
    except (TypeError, ValueError, OverflowError):
        return None
    return flat if sound else None


def _checked_points(value: Any) -> Tuple[List[float], str]:
    """Flat coordinates, and what is wrong with them if anything is."""
    if not isinstance(value, list):
        return [], "no polygon"
    flat: List[float] = []
    for number, point in enumerate(value):
        if not isinstance(point, list) or len(point) != 2:
            return [], f"point {number} is {_brief(point)}, expected [x, y]"
        for coordinate in point:
            good = isinstance(coordinate, (int, float)) and not isinstance(coordinate, bool)
            if not good or not math.isfinite(coordinate):
                return [], f"point {number} is {_brief(point)}, expected two finite numbers"
            if abs(coordinate) > MAX_COORDINATE:
                return [], f"point {number} is {_brief(point)}, far outside every picture"
        flat += point
    return flat, ""


def _unknown_name(name: str, count: int) -> str:
    times = f" ({count} objects)" if count > 1 else ""
    near = difflib.get_close_matches(name[: _REPR.maxstring], LABEL_BY_NAME, 1)
    known = (
        f"did you mean {near[0]!r}?" if near else f"known are {', '.join(LABEL_BY_NAME)}, and each with 'group' added"
    )
    return f"unknown label name {_brief(name)}{times}; {known}"


def _brief(value: Any) -> str:
    return _REPR.repr(value)
