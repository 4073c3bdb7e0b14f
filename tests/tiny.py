"""A tiny dataset in the layout of Cityscapes, made on the fly, and the recipes that are shipped.

The dataset is independent of `stdc`: its label rasters come from cityscapesscripts, so tests may use them as the other
opinion.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image

#: The overlay that makes a smoke run of any recipe, and the recipes that are shipped.
SMOKE = Path(__file__).resolve().parents[1] / "config" / "smoke.yaml"
RECIPES = sorted(path for path in SMOKE.parent.glob("*.yaml") if path != SMOKE)

TINY_CITIES: Mapping[str, Sequence[str]] = {
    "train": ("aachen", "bochum"),
    "val": ("frankfurt", "lindau"),
    "test": ("berlin", "bonn"),
}

#: Drawn in turn, four per frame, over bands of sky, building, vegetation, road and sidewalk: four frames show them all.
_OBJECTS = (
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "terrain",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "cargroup",
    "parking",
)


def make_tiny_dataset(
    root: Path,
    cities: Optional[Mapping[str, Sequence[str]]] = None,
    frames: int = 2,
    height: int = 32,
    width: int = 64,
    seed: int = 0,
    label_ids: bool = True,
    instance_ids: bool = True,
    color: bool = True,
    polygons: bool = True,
    wrappers: bool = False,
) -> Path:
    """Write a dataset below `root` and return `root`.

    Args:
        cities: names by split; a split left out is absent.
        frames: frames per city.
        label_ids, instance_ids, color, polygons: which of the four ground truth files each frame gets.
        wrappers: put the two halves into the folders that the official zips unpack to.
    """
    cities = TINY_CITIES if cities is None else cities
    images = root / "leftImg8bit_trainvaltest" if wrappers else root
    truths = root / "gtFine_trainvaltest" if wrappers else root
    number = 0
    for split, names in cities.items():
        for city in names:
            image_folder = images / "leftImg8bit" / split / city
            truth_folder = truths / "gtFine" / split / city
            image_folder.mkdir(parents=True, exist_ok=True)
            truth_folder.mkdir(parents=True, exist_ok=True)
            for index in range(frames):
                frame = f"{city}_{index:06d}_{19 + index:06d}"
                generator = np.random.default_rng([seed, number])
                document = tiny_annotation(height, width, number, dummy=split == "test")
                annotation = Annotation()
                annotation.fromJsonText(json.dumps(document))
                ids = np.asarray(createLabelImage(annotation, "ids"))
                Image.fromarray(_photograph(ids, generator)).save(image_folder / f"{frame}_leftImg8bit.png")
                stem = truth_folder / f"{frame}_gtFine"
                if polygons:
                    Path(f"{stem}_polygons.json").write_text(json.dumps(document), encoding="utf-8")
                if label_ids:
                    Image.fromarray(ids).save(f"{stem}_labelIds.png")
                if instance_ids:
                    instances = np.asarray(createInstanceImage(annotation, "ids")).astype(np.uint16)
                    Image.fromarray(instances).save(f"{stem}_instanceIds.png")
                if color:
                    createLabelImage(annotation, "color").save(f"{stem}_color.png")
                number += 1
    return root


def tiny_annotation(height: int, width: int, number: int, dummy: bool = False) -> Dict[str, Any]:
    """The polygons document of frame `number`; `dummy` as in the official test split."""

    def box(label: str, top: float, left: float, bottom: float, right: float) -> Dict[str, Any]:
        rows = [round(value * (height - 1)) for value in (top, bottom)]
        columns = [round(value * (width - 1)) for value in (left, right)]
        corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
        return {"label": label, "polygon": [[columns[x], rows[y]] for x, y in corners]}

    if dummy:
        objects = [box("out of roi", 0, 0, 1, 1), box("ego vehicle", 0.9, 0, 1, 1)]
    else:
        shift = 0.02 * (number % 5)
        objects = [
            box("sky", 0, 0, 0.3 + shift, 1),
            box("building", 0.1 + shift, 0, 0.6, 0.5 - shift),
            box("vegetation", 0.2, 0.6 - shift, 0.6, 1),
            box("road", 0.55, 0, 1, 1),
            box("sidewalk", 0.6, 0.7 + shift, 0.95, 1),
        ]
        for place in range(4):
            left = 0.08 + 0.22 * place
            label = _OBJECTS[(4 * number + place) % len(_OBJECTS)]
            objects.append(box(label, 0.4 + shift, left, 0.75 + shift, left + 0.15))
        objects.append(box("license plate", 0.7, 0.1, 0.74, 0.15))
        objects.append(box("static", 0.3, 0.55, 0.5, 0.58))
        objects.append(box("out of roi", 0, 0, 1, 0.01))
        objects.append({**box("dynamic", 0, 0, 1, 1), "deleted": 1})
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def _photograph(ids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A noisy picture whose colors tell the classes apart, so that a network has something to learn."""
    palette = np.zeros((256, 3), np.int64)
    for label in name2label.values():
        palette[label.id] = label.color
    picture = palette[ids] + generator.integers(-12, 13, size=(*ids.shape, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def tiny_frames(root: Path, split: str) -> List[str]:
    """Frame names of `split`, sorted, read from the folder listing."""
    pictures = sorted(root.glob(f"**/leftImg8bit/{split}/*/*_leftImg8bit.png"))
    return [picture.name[: -len("_leftImg8bit.png")] for picture in pictures]
