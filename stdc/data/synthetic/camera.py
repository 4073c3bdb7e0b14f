"""A pinhole camera over a straight street, and polygons cut to the image."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np

#: Two coordinates: (column, row) on the image, or meters on a plane of the scene.
Point = Tuple[float, float]
#: Corners of an outline on the image, (column, row), whole pixels.
Polygon = List[Tuple[int, int]]

#: Height of the camera above the road, meters; about that of the recording vehicle.
_CAMERA_HEIGHT_M = 1.5
#: Smallest area of a polygon worth a label, square pixels.
_SMALLEST_AREA = 4.0


class Camera:
    """Looks along the street: x to the right, y up from the ground, z forward, in meters.

    Args:
        height, width: of the image, pixels.
        horizon: row of the horizon as a fraction of the height.
        vanishing: column of the vanishing point as a fraction of the width.
    """

    def __init__(self, height: int, width: int, horizon: float, vanishing: float) -> None:
        self.height, self.width = height, width
        self.horizon_row = horizon * height
        self.vanishing_column = vanishing * width
        self.focal = 0.55 * width

    def project(self, x: float, y: float, z: float) -> Point:
        """(column, row) of a point; may lie outside the image."""
        column = self.vanishing_column + self.focal * x / z
        return column, self.horizon_row + self.focal * (_CAMERA_HEIGHT_M - y) / z

    def pixels_per_meter(self, z: float) -> float:
        """Scale of an upright object at depth `z`."""
        return self.focal / z

    def upright(self, x: float, z: float, shape: Sequence[Point]) -> List[Point]:
        """An outline given in meters, (right, up) from a point on the ground, facing the camera."""
        return [self.project(x + right, up, z) for right, up in shape]

    def ground(self, corners: Sequence[Point]) -> List[Point]:
        """An outline on the ground, its corners as (x, z)."""
        return [self.project(x, 0.0, z) for x, z in corners]

    def wall(self, x: float, near: float, far: float, bottom: float, top: float) -> List[Point]:
        """A surface along the street, from depth `near` to `far`."""
        return [
            self.project(x, bottom, near),
            self.project(x, bottom, far),
            self.project(x, top, far),
            self.project(x, top, near),
        ]

    def cut(self, outline: Sequence[Point]) -> Polygon:
        """Integer points of the part inside the image; empty where next to nothing is left."""
        points = [(float(x), float(y)) for x, y in outline]
        for axis, limit, sign in ((0, 0.0, 1), (0, self.width - 1.0, -1), (1, 0.0, 1), (1, self.height - 1.0, -1)):
            points = _cut_at(points, axis, limit, sign)
        rounded: Polygon = []
        for x, y in points:
            point = (int(np.floor(x + 0.5)), int(np.floor(y + 0.5)))
            if not rounded or rounded[-1] != point:
                rounded.append(point)
        if len(rounded) > 1 and rounded[0] == rounded[-1]:
            rounded.pop()
        return rounded if len(rounded) >= 3 and area(rounded) >= _SMALLEST_AREA else []


def area(polygon: Sequence[Tuple[int, int]]) -> float:
    """Area in square pixels."""
    x, y = np.array(polygon, np.float64).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _cut_at(points: List[Point], axis: int, limit: float, sign: int) -> List[Point]:
    """The part of an outline on one side of a line (Sutherland and Hodgman)."""
    kept: List[Point] = []
    for start, end in zip(points, points[1:] + points[:1]):
        inside_start = sign * (start[axis] - limit) >= 0
        inside_end = sign * (end[axis] - limit) >= 0
        if inside_start:
            kept.append(start)
        if inside_start != inside_end:
            share = (limit - start[axis]) / (end[axis] - start[axis])
            kept.append((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
    return kept
