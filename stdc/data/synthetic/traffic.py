"""What moves: vehicles, people, two-wheelers with their riders, and groups of them."""

from __future__ import annotations

from typing import List, Sequence, Set

from stdc.data.synthetic.camera import Camera
from stdc.data.synthetic.street import PAVEMENT, ROAD
from stdc.data.synthetic.things import Color, Detail, Dice, Point, Thing, box, ellipse

_PAINTS = ((180, 30, 30), (30, 60, 140), (200, 200, 205), (40, 42, 45), (230, 230, 230), (90, 100, 95), (190, 150, 40))
_CLOTHES = ((40, 50, 90), (130, 30, 40), (60, 60, 62), (200, 190, 170), (50, 100, 70), (220, 120, 40))
_SKIN = ((225, 180, 150), (190, 140, 110), (120, 82, 60))
_GLASS: Color = (48, 58, 70)
_RUBBER: Color = (22, 22, 24)


def vehicles(camera: Camera, dice: Dice, wanted: Set[str]) -> List[Thing]:
    """Cars in both lanes and parked, and the large vehicles asked for."""
    things: List[Thing] = []
    lanes = [-2.1, 2.1]
    free = {lane: dice.between(5.5, 9) for lane in lanes}
    order = [name for name in ("bus", "truck", "train") if name in wanted] + ["car"] * dice.count(2, 4)
    for name in order:
        lane = lanes[dice.count(0, 1)]
        z = free[lane]
        if z > 45:
            continue
        things += _car(camera, dice, lane, z) if name == "car" else [_large(camera, dice, name, lane, z)]
        free[lane] = z + dice.between(5, 12) + (7 if name != "car" else 0)
    z = dice.between(5, 9)
    while z < 40 and dice.chance(0.75):
        side = -1 if dice.chance(0.5) else 1
        things += _car(camera, dice, side * (ROAD - 0.7), z)
        z += dice.between(5, 9)
    if "cargroup" in wanted:
        at = dice.between(38, 55)
        outline = camera.upright(dice.between(-2, 2), at, [(-3.2, 0.2), (3.2, 0.2), (3.0, 1.4), (-3.0, 1.5)])
        things.append(Thing("cargroup", outline, at, dice.near((95, 95, 105), 20), 10, 16, 3))
    if "caravan" in wanted or "trailer" in wanted:
        label = "caravan" if "caravan" in wanted else "trailer"
        x, z = -ROAD + 0.6, dice.between(12, 22)
        things.append(Thing(label, camera.upright(x, z, box(-1.1, 1.1, 0.4, 2.4)), z, dice.near((215, 212, 200), 10)))
    return things


def people(camera: Camera, dice: Dice, wanted: Set[str]) -> List[Thing]:
    """Pedestrians, riders on bicycles and motorcycles, parked bicycles."""
    things: List[Thing] = []
    for _ in range(dice.count(1, 4)):
        side = -1 if dice.chance(0.5) else 1
        x = side * dice.between(ROAD + 0.4, PAVEMENT - 0.2) if dice.chance(0.8) else dice.between(-3, 3)
        things.append(_person(camera, dice, "person", x, dice.between(5, 22), 0.0))
    for vehicle in ("bicycle", "motorcycle"):
        if vehicle in wanted:
            x, z = (1 if dice.chance(0.5) else -1) * dice.between(1.2, 3.4), dice.between(4.5, 9)
            things += _two_wheeler(camera, dice, vehicle, x, z, ridden=True)
    if "parked" in wanted:
        kind = "bicycle" if dice.chance(0.6) else "motorcycle"
        x = (1 if dice.chance(0.5) else -1) * dice.between(ROAD + 0.5, PAVEMENT)
        things += _two_wheeler(camera, dice, kind, x, dice.between(5, 10), ridden=False)
    if "persongroup" in wanted:
        x, z = (1 if dice.chance(0.5) else -1) * (PAVEMENT - 1), dice.between(16, 28)
        shape = [
            (-1.3, 0),
            (1.3, 0),
            (1.2, 1.5),
            (0.8, 1.75),
            (0.4, 1.55),
            (0.0, 1.8),
            (-0.5, 1.55),
            (-0.9, 1.75),
            (-1.2, 1.5),
        ]
        things.append(Thing("persongroup", camera.upright(x, z, shape), z, dice.near((85, 75, 80), 18), 10, 20, 3))
    return things


def _shadow(camera: Camera, x: float, z: float, half_width: float) -> Detail:
    column, row = camera.project(x, 0, z)
    scale = camera.pixels_per_meter(z)
    return Detail(ellipse((column, row), (half_width * scale, 0.16 * scale)), (15, 15, 18), 0.55)


def _car(camera: Camera, dice: Dice, x: float, z: float) -> List[Thing]:
    """A car, and its number plate where that is large enough to see."""
    size = dice.between(0.92, 1.1)
    paint = dice.near(dice.one_of(_PAINTS), 12)
    towards = x < 0
    lamp: Color = (255, 250, 225) if towards else (225, 35, 30)

    def part(shape: Sequence[Point], color: Color) -> Detail:
        return Detail(camera.upright(x, z, [(right * size, up * size) for right, up in shape]), color)

    details = [
        part([(-0.62, 0.9), (0.62, 0.9), (0.52, 1.36), (-0.52, 1.36)], _GLASS),
        part(box(-0.86, -0.6, 0.62, 0.8), lamp),
        part(box(0.6, 0.86, 0.62, 0.8), lamp),
        part(box(-0.88, 0.88, 0.3, 0.42), (38, 38, 40)),
        part(box(-0.88, -0.62, 0.0, 0.34), _RUBBER),
        part(box(0.62, 0.88, 0.0, 0.34), _RUBBER),
    ]
    wheels = [(-0.88, 0.0), (-0.62, 0.0), (-0.6, 0.25), (0.6, 0.25), (0.62, 0.0), (0.88, 0.0)]
    outline = [*wheels, (0.92, 0.85), (0.68, 1.45), (-0.68, 1.45), (-0.92, 0.85)]
    shape = [(right * size, up * size) for right, up in outline]
    car = Thing("car", camera.upright(x, z, shape), z, paint, 4, 6, 8, 0.8, [_shadow(camera, x, z, 1.1)], details)
    if z > 12:
        return [car]
    plate = camera.upright(x, z, [(right * size, up * size) for right, up in box(-0.26, 0.26, 0.45, 0.58)])
    return [car, Thing("license plate", plate, z - 0.01, (232, 232, 225), 2, 2)]


def _large(camera: Camera, dice: Dice, name: str, x: float, z: float) -> Thing:
    """A bus, truck or tram: a front and one visible side."""
    half, top, length = {"bus": (1.25, 3.0, 9.0), "truck": (1.2, 3.3, 7.0), "train": (1.3, 3.5, 16.0)}[name]
    inner = x + half if x < 0 else x - half
    outer = x - half if x < 0 else x + half
    far = z + length
    outline = [
        camera.project(outer, 0.15, z), camera.project(inner, 0.15, z), camera.project(inner, 0.15, far),
        camera.project(inner, top, far), camera.project(inner, top, z), camera.project(outer, top, z),
    ]  # fmt: skip
    details = []
    left, right = min(-half, half) + 0.1, max(-half, half) - 0.1
    if name == "truck":
        paint = dice.near(dice.one_of(((215, 215, 210), (60, 90, 140), (190, 60, 50))), 12)
        details.append(Detail(camera.wall(inner, z, z + 1.8, 0.6, 2.4), dice.near((150, 60, 50), 30)))
        details.append(Detail(camera.upright(x, z, box(left, right, 1.3, 2.1)), _GLASS))
    elif name == "bus":
        paint = dice.near(dice.one_of(((215, 190, 40), (200, 60, 50), (235, 235, 230))), 10)
        details.append(Detail(camera.upright(x, z, box(left, right, 1.2, 2.5)), _GLASS))
        details += [
            Detail(camera.wall(inner, z + at, z + at + 1.1, 1.3, 2.3), _GLASS) for at in (0.5, 2.0, 3.5, 5.0, 6.5)
        ]
    else:
        paint = dice.near(dice.one_of(((60, 130, 80), (60, 110, 170), (190, 40, 50))), 10)
        details.append(Detail(camera.upright(x, z, box(left, right, 1.5, 2.7)), _GLASS))
        details.append(Detail(camera.wall(inner, z + 0.4, far - 0.4, 1.5, 2.5), _GLASS, 0.9))
        details.append(Detail(camera.wall(inner, z, far, 0.9, 1.1), (235, 235, 230)))
        details.append(Detail(camera.upright(x, z, box(left, right, 0.9, 1.1)), (235, 235, 230)))
    for side in (-1, 1):
        details.append(Detail(camera.upright(x + side * (half - 0.25), z, box(-0.2, 0.2, 0.15, 0.6)), _RUBBER))
    return Thing(name, outline, z, paint, 4, 6, 12, 0.82, [_shadow(camera, x, z, half + 0.2)], details)


def _person(camera: Camera, dice: Dice, label: str, x: float, z: float, lift: float) -> Thing:
    """Someone on foot, or in the saddle `lift` meters above the ground."""
    size = dice.between(0.9, 1.08)
    stride = dice.between(0.05, 0.22)
    clothes, legs = dice.near(dice.one_of(_CLOTHES), 14), dice.near((45, 48, 60), 18)
    scale = camera.pixels_per_meter(z)

    def up(value: float) -> float:
        return lift + value * size

    shape = [
        (-stride - 0.1, up(0)), (-stride + 0.08, up(0)), (0.0, up(0.75)), (stride - 0.08, up(0)), (stride + 0.1, up(0)),
        (0.16, up(0.85)), (0.28, up(0.95)), (0.24, up(1.42)), (0.1, up(1.48)), (0.13, up(1.62)), (0.08, up(1.74)),
        (-0.08, up(1.74)), (-0.13, up(1.62)), (-0.1, up(1.48)), (-0.24, up(1.42)), (-0.28, up(0.95)), (-0.16, up(0.85)),
    ]  # fmt: skip
    head = camera.project(x, up(1.62), z)
    details = [
        Detail(camera.upright(x, z, [(-0.17, up(0.85)), (0.17, up(0.85)), (stride + 0.1, up(0)), (stride - 0.08, up(0)),
                                     (0, up(0.72)), (-stride + 0.08, up(0)), (-stride - 0.1, up(0))]), legs),
        Detail(ellipse(head, (0.12 * scale, 0.14 * scale), 10), dice.one_of(_SKIN)),
    ]  # fmt: skip
    under = [] if lift else [_shadow(camera, x, z, 0.3)]
    return Thing(label, camera.upright(x, z, shape), z - 0.005, clothes, 5, 6, 4, 0.9, under, details)


def _two_wheeler(camera: Camera, dice: Dice, kind: str, x: float, z: float, ridden: bool) -> List[Thing]:
    """A bicycle or motorcycle seen at an angle, with its rider if it has one."""
    wheel, thick = (0.34, 0.10) if kind == "bicycle" else (0.36, 0.30)
    half = 0.52
    body = [
        (-half - wheel, 0.0), (half + wheel, 0.0), (half + wheel, 0.55), (half, 0.95 + thick),
        (half - 0.15, 0.95 + thick),
        (half - 0.25, 0.7), (-0.1, 0.75 + thick), (-half, 0.8 + thick), (-half - wheel, 0.55),
    ]  # fmt: skip
    scale = camera.pixels_per_meter(z)
    details = []
    for side in (-1, 1):
        center = camera.project(x + side * half, wheel, z)
        details.append(Detail(ellipse(center, (wheel * scale, wheel * scale), 14), _RUBBER))
        inner = wheel * (0.75 if kind == "bicycle" else 0.45)
        details.append(Detail(ellipse(center, (inner * scale, inner * scale), 12), (120, 120, 118)))
    color = dice.near((150, 60, 50) if kind == "bicycle" else (45, 60, 110), 30)
    if kind == "motorcycle":
        details.append(Detail(camera.upright(x, z, box(-0.35, 0.35, 0.35, 0.85)), dice.near((180, 40, 35), 25)))
    things = [Thing(kind, camera.upright(x, z, body), z, color, 5, 6, 4, 1.0, [_shadow(camera, x, z, 0.9)], details)]
    if ridden:
        things.append(_person(camera, dice, "rider", x - 0.05, z - 0.01, 0.42))
    return things
