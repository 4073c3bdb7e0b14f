"""What stands still: road, pavements, buildings, greenery, poles, signs, walls and fences."""

from __future__ import annotations

from typing import List, Set

from stdc.data.synthetic.camera import Camera
from stdc.data.synthetic.things import Color, Detail, Dice, Thing, blob, box, ellipse

#: Half the width of the road and the outer edges of what lies beside it, meters.
ROAD, PAVEMENT, VERGE, FACADE = 4.2, 6.6, 8.6, 9.0
NEAR, FAR = 1.2, 120.0

_FACADES = ((150, 120, 100), (170, 150, 125), (120, 110, 110), (160, 95, 80), (185, 175, 155), (110, 120, 130))
_SIGNS = ((200, 35, 40), (30, 70, 180), (235, 205, 40), (235, 235, 235))
_GLASS: Color = (60, 72, 85)


def ground(camera: Camera, dice: Dice) -> List[Thing]:
    """Sky, road with its markings, pavements and verges."""
    sky = dice.one_of(((150, 185, 230), (190, 200, 212), (215, 215, 215), (235, 205, 180)))
    bottom = camera.horizon_row + 2
    edge = camera.width
    things = [
        Thing("sky", [(0, 0), (edge, 0), (edge, bottom), (0, bottom)], 1000, sky, 1.5, 6, 60, fade=1.12),
        Thing(
            "terrain",
            [(0, camera.horizon_row), (edge, camera.horizon_row), (edge, camera.height), (0, camera.height)],
            900,
            dice.near((105, 115, 62), 14),
            9,
            12,
            10,
        ),
    ]
    stone = dice.near((152, 144, 140), 14)
    for side in (-1, 1):
        strip = [(side * ROAD, NEAR), (side * ROAD, FAR), (side * PAVEMENT, FAR), (side * PAVEMENT, NEAR)]
        seams = []
        for z in (2.2, 3.2, 4.5, 6.3, 8.8, 12.0):
            joint = [(side * ROAD, z), (side * PAVEMENT, z), (side * PAVEMENT, 1.03 * z), (side * ROAD, 1.03 * z)]
            seams.append(Detail(camera.ground(joint), (110, 106, 104), 0.5))
        things.append(Thing("sidewalk", camera.ground(strip), 800, stone, 5, 6, 8, details=seams))
    asphalt = dice.near((92, 92, 96), 14)
    lane = [(-ROAD, NEAR), (-ROAD, FAR), (ROAD, FAR), (ROAD, NEAR)]
    marks = []
    for x, dashed in ((0.0, True), (-ROAD + 0.35, False), (ROAD - 0.35, False)):
        z = 1.5 + dice.between(0, 2)
        while z < 60:
            length = 3.0 if dashed else 60.0
            outline = [(x - 0.08, z), (x + 0.08, z), (x + 0.08, min(z + length, 60)), (x - 0.08, min(z + length, 60))]
            marks.append(Detail(camera.ground(outline), (205, 205, 200), 0.85))
            z += 7.0 if dashed else 60.0
    if dice.chance(0.3):
        at = dice.between(7, 13)
        for stripe in range(-4, 5):
            left, right = stripe * 0.9, stripe * 0.9 + 0.45
            outline = [(left, at), (right, at), (right, at + 3), (left, at + 3)]
            marks.append(Detail(camera.ground(outline), (210, 210, 205), 0.8))
    things.append(Thing("road", camera.ground(lane), 790, asphalt, 6, 7, 14, fade=0.95, details=marks))
    return things


def buildings(camera: Camera, dice: Dice) -> List[Thing]:
    """Rows of facades on both sides, with gaps, and sometimes a house at the end of the street."""
    things = []
    if dice.chance(0.6):
        at, width, height = dice.between(70, 110), dice.between(8, 25), dice.between(8, 20)
        outline = camera.upright(dice.between(-6, 6), at, [(-width, 0), (width, 0), (width, height), (-width, height)])
        things.append(Thing("building", outline, at, dice.near(dice.one_of(_FACADES), 10), 4, 5, 6))
    for side in (-1, 1):
        z = 1.3
        while z < 95:
            length = dice.between(6, 14)
            if dice.chance(0.8):
                things.append(_facade(camera, dice, side * FACADE, z, z + length))
            z += length + (dice.between(2, 7) if dice.chance(0.3) else 0)
    return things


def _facade(camera: Camera, dice: Dice, x: float, near: float, far: float) -> Thing:
    height = dice.between(6, 15)
    windows = []
    if near < 45:
        depth = near + 0.8
        while depth + 1.2 < far:
            level = 1.2
            while level + 1.4 < height:
                windows.append(Detail(camera.wall(x, depth, depth + 1.1, level, level + 1.4), _GLASS, 0.85))
                level += 2.9
            depth += 2.3
    return Thing(
        "building", camera.wall(x, near, far, 0, height), near, dice.near(dice.one_of(_FACADES), 16), 5, 8, 10,
        fade=0.88, details=windows,
    )  # fmt: skip


def greenery(camera: Camera, dice: Dice) -> List[Thing]:
    """Trees and bushes."""
    things = []
    for side in (-1, 1):
        z = dice.between(5, 12)
        while z < 60:
            if dice.chance(0.6):
                x, scale = side * dice.between(PAVEMENT, VERGE), camera.pixels_per_meter(z)
                column, row = camera.project(x, dice.between(3.5, 5.5), z)
                radius = dice.between(1.4, 2.6) * scale
                trunk = camera.upright(x, z, [(-0.16, 0), (0.16, 0), (0.12, 4), (-0.12, 4)])
                green = dice.near((62, 92, 44), 16)
                things.append(Thing("vegetation", trunk, z + 0.01, (84, 70, 55), 8, 6, 5))
                things.append(
                    Thing("vegetation", blob((column, row), (radius, radius * 0.9), dice), z, green, 14, 18, 5)
                )
            z += dice.between(5, 12)
        if dice.chance(0.4):
            at = dice.between(6, 20)
            scale = camera.pixels_per_meter(at)
            column, row = camera.project(side * VERGE, 0.5, at)
            outline = blob((column, row), (1.6 * scale, 0.7 * scale), dice)
            things.append(Thing("vegetation", outline, at, dice.near((70, 98, 50), 14), 14, 16, 4))
    return things


def barriers(camera: Camera, dice: Dice, wanted: Set[str]) -> List[Thing]:
    """A wall or a fence along one side."""
    things = []
    side = -1 if dice.chance(0.5) else 1
    if "wall" in wanted:
        near = dice.between(3, 7)
        outline = camera.wall(side * (PAVEMENT + 0.3), near, near + dice.between(8, 20), 0, dice.between(1.6, 2.4))
        things.append(Thing("wall", outline, near, dice.near((140, 132, 118), 14), 7, 9, 5))
    if "fence" in wanted:
        near = dice.between(3, 7)
        far, x, top = near + dice.between(9, 20), -side * (PAVEMENT + 0.4), dice.between(1.0, 1.5)
        rails, depth = [], near
        while depth < far:
            rails.append(Detail(camera.wall(x, depth, depth + 0.12, 0, top), (60, 66, 62)))
            depth += 0.45
        things.append(
            Thing(
                "fence", camera.wall(x, near, far, 0, top), near, dice.near((124, 128, 116), 10), 5, 8, 4, details=rails
            )
        )
    return things


def furniture(camera: Camera, dice: Dice, wanted: Set[str]) -> List[Thing]:
    """Poles with signs or lights, and boxes that have no class."""
    things = []
    # Nearer poles stand outside the picture, or hold what they carry above it.
    z = dice.between(7.5, 9.5)
    if "traffic light" in wanted:
        # At both kerbs, as at a crossing: a lorry hides one of them at most.
        for side in (-1, 1):
            things += _post(camera, dice, side, z, "traffic light")
        z += dice.between(4, 8)
    due = "traffic sign" if "traffic sign" in wanted else ""
    while z < 45:
        side = -1 if dice.chance(0.5) else 1
        things += _post(camera, dice, side, z, due or ("traffic sign" if dice.chance(0.35) else ""))
        due = ""
        z += dice.between(5, 11)
    if dice.chance(0.35):
        z, x = dice.between(5, 15), (1 if dice.chance(0.5) else -1) * dice.between(ROAD + 1, PAVEMENT)
        label = "static" if dice.chance(0.7) else "dynamic"
        outline = camera.upright(x, z, box(-0.35, 0.35, 0, dice.between(0.8, 1.2)))
        things.append(Thing(label, outline, z, dice.near((96, 92, 80), 30), 8, 8, 5))
    return things


def _post(camera: Camera, dice: Dice, side: int, z: float, carries: str) -> List[Thing]:
    """A pole at the kerb, with what it carries."""
    x, top = side * (ROAD + dice.between(0.4, 0.9)), dice.between(3.2, 4.4)
    width = dice.between(0.07, 0.11)
    post = camera.upright(x, z, box(-width, width, 0, top))
    things = [Thing("pole", post, z + 0.02, dice.near((112, 114, 114), 12), 4, 4)]
    if carries == "traffic light":
        things.append(_traffic_light(camera, dice, x, z, top))
    elif carries == "traffic sign":
        things.append(_traffic_sign(camera, dice, x, z, top))
    return things


def _traffic_light(camera: Camera, dice: Dice, x: float, z: float, top: float) -> Thing:
    scale = camera.pixels_per_meter(z)
    lit = dice.count(0, 2)
    lamps = []
    for place, (bright, dark) in enumerate(
        (((255, 60, 45), (70, 25, 25)), ((255, 190, 50), (75, 60, 25)), ((60, 240, 130), (20, 65, 40)))
    ):
        center = camera.project(x, top - 0.25 - 0.37 * place, z)
        lamps.append(Detail(ellipse(center, (0.15 * scale, 0.15 * scale), 10), bright if place == lit else dark))
    return Thing(
        "traffic light", camera.upright(x, z, box(-0.24, 0.24, top - 1.2, top)), z, (36, 38, 38), 3, 3, details=lamps
    )


def _traffic_sign(camera: Camera, dice: Dice, x: float, z: float, top: float) -> Thing:
    scale = camera.pixels_per_meter(z)
    size = dice.between(0.34, 0.48)
    center = camera.project(x, top - size, z)
    color = dice.one_of(_SIGNS)
    kind = dice.count(0, 2)
    if kind == 0:
        outline = ellipse(center, (size * scale, size * scale))
    elif kind == 1:
        outline = camera.upright(x, z, [(-size, top - 2 * size), (size, top - 2 * size), (0, top)])
    else:
        outline = camera.upright(x, z, box(-size, size, top - 2 * size, top))
    inner = (235, 235, 235) if color != (235, 235, 235) else (40, 45, 60)
    mark = Detail(ellipse(center, (0.45 * size * scale, 0.45 * size * scale), 10), inner)
    return Thing("traffic sign", outline, z, dice.near(color, 8), 3, 3, details=[mark])
