"""Files of a generated dataset: the layout of Cityscapes, the same bytes for the same configuration."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

import cv2
import numpy as np

from stdc import files
from stdc.data import layout
from stdc.data.labels import LABEL_BY_NAME
from stdc.data.synthetic.paint import paint
from stdc.data.synthetic.scene import Piece, make_scene
from stdc.errors import InputError, shown
from stdc.machine.pool import run_parallel
from stdc.seeds import sample_generator

#: Invented places; no split shares one.
CITIES: Dict[str, Tuple[str, ...]] = {
    "train": ("altenfurt", "brueckenau", "lindental"),
    "val": ("morgenstadt", "seehausen"),
    "test": ("ostermark", "talheim"),
}
#: Labels of the official test split's published polygons, which hide the real ones.
_DUMMY = ("ego vehicle", "rectification border", "out of roi")
#: A file in a generated folder. It says that this program made the folder and may replace it.
MARKER = ".stdc-generated"
#: Every trained class needs a few pixels to be seen at all.
MIN_HEIGHT, MIN_WIDTH = 64, 128
#: Beyond these a frame does not fit into memory, or a dataset on any disk.
MAX_SIDE, MAX_FRAMES = 16_384, 999_999
MAX_SEED = 2**63 - 1

# Bounded in length, unlike repr().
_brief = reprlib.Repr().repr


@dataclasses.dataclass(frozen=True)
class SyntheticFrame:
    """One frame to make: its split and its place in it."""

    split: str
    index: int
    count: int

    @property
    def city(self) -> str:
        """Cities take turns, so that any two frames in a row are from two cities."""
        cities = CITIES[self.split]
        return cities[self.index % len(cities)]

    @property
    def name(self) -> str:
        """{city}_{sequence}_{frame}; as in the original, the last number is not always the same."""
        return f"{self.city}_{self.index // len(CITIES[self.split]):06d}_{19 + 37 * (self.index % 7):06d}"


class Synthetic(NamedTuple):
    """What is drawn (section `synthetic`).

    Attributes:
        seed: decides every scene.
        height, width: of each image, pixels.
        train, val, test: frames by split.
    """

    seed: int
    height: int
    width: int
    train: int
    val: int
    test: int


def make_dataset(
    wanted: Synthetic,
    output: Path,
    index: Path,
    *,
    processes: int,
    done: Callable[[], None] = lambda: None,
) -> int:
    """Write a dataset, and its index when all of it is there.

    Args:
        wanted: size and number of the frames.
        output: dataset root; replaced where it is one that was generated before.
        index: JSON file with the section and the SHA-256 of every file, written last.
        processes: how many share the work; their number does not change a byte.
        done: called after each frame.
    Returns:
        The number of frames.
    Raises:
        InputError: the folder holds files of someone else.
    """
    if output.is_dir() and any(output.iterdir()) and not (output / MARKER).is_file():
        raise InputError(f"{output}: holds files that make_synthetic did not write; choose another output")
    counts = {split: getattr(wanted, split) for split in CITIES}
    frames = [SyntheticFrame(split, number, count) for split, count in counts.items() for number in range(count)]
    if index.exists():
        index.unlink()
    if output.exists():
        shutil.rmtree(output)
    # The marker is written first, so that the folder a killed run leaves may be replaced by the next one.
    files.write_text(output / MARKER, "made by make_synthetic; may be deleted and made again\n")
    digests = run_parallel(
        lambda frame: write_frame(frame, wanted, output),
        frames,
        processes,
        lambda frame: frame.name,
        lambda index, digests: done(),
    )
    table = {path: digest for part in digests for path, digest in part.items()}
    files.write_json(index, {"synthetic": wanted._asdict(), "files": table})
    return len(frames)


def read_section(section: Any) -> Synthetic:
    """Parse the section `synthetic`, and refuse what cannot be drawn.

    Raises:
        InputError: names the key.
    """
    if not isinstance(section, dict):
        raise InputError(
            f"synthetic: a section with seed, height, width, train, val and test is expected, not {_brief(section)}"
        )
    limits = {
        "seed": (0, MAX_SEED),
        "height": (MIN_HEIGHT, MAX_SIDE),
        "width": (MIN_WIDTH, MAX_SIDE),
        "train": (2, MAX_FRAMES),
        "val": (2, MAX_FRAMES),
        "test": (0, MAX_FRAMES),
    }
    for key, (least, most) in limits.items():
        value = section.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InputError(f"synthetic.{key}: {_brief(value)}; an integer from {least} to {most} is expected")
    unknown = sorted(set(section) - set(limits))
    if unknown:
        raise InputError(f"synthetic.{shown(unknown[0])[:60]}: no such key; known are {', '.join(limits)}")
    return Synthetic(**section)


def write_frame(frame: SyntheticFrame, wanted: Synthetic, root: Path) -> Dict[str, str]:
    """Draw and write one frame; {path relative to the root: SHA-256}."""
    height, width = wanted.height, wanted.width
    split_number = list(CITIES).index(frame.split)
    generator = sample_generator(wanted.seed, split_number, frame.index)
    scene = make_scene(height, width, frame.index, frame.count, generator)
    picture = paint(scene, height, width, generator)
    pieces = scene.pieces if frame.split != "test" else [p for p in scene.pieces if p.thing.label in _DUMMY]
    annotation = annotate(pieces, height, width)
    contents = {
        layout.IMAGE: png(picture[..., ::-1]),
        layout.POLYGONS: json.dumps(annotation, indent=1, sort_keys=True).encode("ascii") + b"\n",
        **rasters(annotation),
    }
    digests = {}
    for kind, data in contents.items():
        path = layout.frame_path(kind, frame.split, frame.city, frame.name)
        files.write_bytes(root / path, data)
        digests[path] = files.sha256_file(root / path)
    return digests


def annotate(pieces: List[Piece], height: int, width: int) -> Dict[str, Any]:
    """The official annotation of a scene."""
    objects = [{"label": piece.thing.label, "polygon": [list(point) for point in piece.polygon]} for piece in pieces]
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def rasters(annotation: Mapping[str, Any]) -> Dict[str, bytes]:
    """What the official tools draw from an annotation, as PNG files: label ids, instance ids, and colors, by kind."""
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    official = Annotation()
    official.fromJsonText(json.dumps(annotation))
    label_ids = np.array(createLabelImage(official, "ids"))
    instance_ids = np.array(createInstanceImage(official, "ids"))
    return {
        layout.LABEL_IDS: png(label_ids.astype(np.uint8)),
        layout.INSTANCE_IDS: png(instance_ids.astype(np.uint16)),
        layout.COLOR: png(_COLORS[label_ids][..., ::-1]),
    }


def png(pixels: np.ndarray) -> bytes:
    """A PNG of a picture (blue-green-red) or a raster; equal pixels give equal bytes."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    return bytes(data)


def _color_table() -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    for label in LABEL_BY_NAME.values():
        if label.id >= 0:
            table[label.id] = label.color
    return table


_COLORS = _color_table()
