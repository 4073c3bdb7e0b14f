"""Reads `reference.yaml`, the table of published figures, and checks it."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from stdc.errors import InputErrors
from stdc.files import PathLike
from stdc.presets import PRESETS
from stdc.published.figures import (
    SPEED_KINDS,
    WEIGHTS,
    Backbone,
    Claim,
    Figure,
    PublishedProtocol,
    PublishedRecipe,
    PublishedSpeed,
    Reference,
    Source,
)
from stdc.units import Size, counted

#: What a published recipe may state: the presets' keys, what every recipe chooses for itself, and the devices.
_TRAIN_KEYS = ("iterations", "global_batch", "crop_height", "crop_width", "devices", *PRESETS["paddleseg"])

DEFAULT_PATH = Path(__file__).with_name("reference.yaml")


@functools.lru_cache(maxsize=None)
def load_reference(path: PathLike = DEFAULT_PATH) -> Reference:
    """Read and check the table of published figures.

    Raises:
        InputErrors: not YAML, or entries that lack a key, have an unknown one or a value out of range; all listed.
    """
    # Imported here, because the doctor has to be able to say in words that PyYAML is missing.
    import yaml

    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputErrors(f"{path}: not readable as YAML", [" ".join(str(error).split())]) from None
    reader = _Reader()
    made = reader.reference(document)
    if reader.problems:
        raise InputErrors(
            f"{path}: {counted(len(reader.problems), 'problem')} in the published figures", reader.problems
        )
    return made


class _Reader:
    """Turns the document into the classes above, and collects what is wrong with it in `problems`.

    Each method takes the dotted name of the entry for its messages and the value found there. Where the value is wrong
    it adds a problem and returns one of the right type, so that reading goes on and all problems are found at once.
    """

    def __init__(self) -> None:
        self.problems: List[str] = []

    def reference(self, document: Any) -> Reference:
        tolerances, tables = ("tolerance_points", "same_weights_points"), ("backbones", "recipes", "figures", "speeds")
        top = self.mapping("top level", document, ("format", *tolerances, "sources", *tables))
        if top.get("format") != 1:
            self.problems.append(f"format: {top.get('format')!r}; this program reads format 1")
        tolerance = self.number("tolerance_points", top.get("tolerance_points"), 0, 100)
        same_weights = self.number("same_weights_points", top.get("same_weights_points"), 0, 100)
        sources = {}
        for name, value in self.any_mapping("sources", top.get("sources")).items():
            fields = self.mapping(f"sources.{name}", value, ("title", "url", "read"))
            sources[name] = Source(
                *(self.text(f"sources.{name}.{key}", fields.get(key)) for key in ("title", "url", "read"))
            )
        backbones = {
            name: self.backbone(name, value, sources)
            for name, value in self.any_mapping("backbones", top.get("backbones")).items()
        }
        figures = [
            self.figure(index, value, sources, tolerance) for index, value in enumerate(self.items("figures", top))
        ]
        speeds = [self.speed(index, value, sources) for index, value in enumerate(self.items("speeds", top))]
        names = [figure.id for figure in figures] + [speed.id for speed in speeds]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(f"id: {name!r} occurs {names.count(name)} times")
        recipes = {
            name: self.recipe(name, value, sources)
            for name, value in self.any_mapping("recipes", top.get("recipes")).items()
        }
        return Reference(tolerance, same_weights, sources, backbones, recipes, tuple(figures), tuple(speeds))

    def backbone(self, name: str, value: Any, sources: Mapping[str, Source]) -> Backbone:
        where = f"backbones.{name}"
        fields = self.mapping(
            where,
            value,
            ("source", "parameters_millions", "megaflops", "stored_numbers", "started_from", "not_started_from"),
        )
        return Backbone(
            source=self.one_of(f"{where}.source", fields.get("source"), sources),
            parameters_millions=self.number(
                f"{where}.parameters_millions", fields.get("parameters_millions"), 0, math.inf
            ),
            megaflops=self.number(f"{where}.megaflops", fields.get("megaflops"), 0, math.inf),
            stored_numbers=int(self.number(f"{where}.stored_numbers", fields.get("stored_numbers"), 1, math.inf)),
            started_from=self.names(f"{where}.started_from", fields.get("started_from")),
            not_started_from=self.names(f"{where}.not_started_from", fields.get("not_started_from")),
        )

    def recipe(self, name: str, value: Any, sources: Mapping[str, Source]) -> PublishedRecipe:
        where = f"recipes.{name}"
        fields = self.mapping(where, value, ("source", "preset", "values"))
        values = self.any_mapping(f"{where}.values", fields.get("values"))
        for key in ("iterations", "global_batch", "devices"):
            self.number(f"{where}.values.{key}", values.get(key), 1, math.inf)
        unknown = sorted(set(values) - set(_TRAIN_KEYS))
        if unknown:
            self.problems.append(f"{where}.values: unknown {', '.join(unknown)}")
        return PublishedRecipe(
            source=self.one_of(f"{where}.source", fields.get("source"), sources),
            preset=None if fields.get("preset") is None else self.one_of(f"{where}.preset", fields["preset"], PRESETS),
            values=values,
        )

    def figure(self, index: int, value: Any, sources: Mapping[str, Source], tolerance: float) -> Figure:
        where = f"figures[{index}]"
        required = ("id", "source", "framework", "backbone", "value", "weights", "protocol", "recipe")
        fields = self.mapping(where, value, required, ("tolerance_points", "never_compared", "notes", "published_with"))
        where = f"figures.{fields.get('id', index)}"
        protocol = self.mapping(f"{where}.protocol", fields.get("protocol"), ("scales", "flip", "size", "precision"))
        scales = protocol.get("scales") or []
        if not isinstance(scales, list) or not scales:
            self.problems.append(f"{where}.protocol.scales: a list of numbers is expected")
            scales = [1.0]
        claim = self.mapping(
            f"{where}.recipe",
            fields.get("recipe"),
            ("preset", "iterations", "global_batch", "crop", "pretrained"),
        )
        preset = claim.get("preset")
        if preset is not None and preset not in PRESETS:
            self.problems.append(f"{where}.recipe.preset: {preset!r} is not one of {', '.join(sorted(PRESETS))}")
        reason = fields.get("never_compared")
        if preset is None and reason is None:
            self.problems.append(f"{where}: a recipe without preset needs never_compared, which says why")
        if preset is not None and None in (claim.get("iterations"), claim.get("global_batch"), claim.get("crop")):
            self.problems.append(f"{where}.recipe: iterations, global_batch and crop belong to a preset's figure")
        return Figure(
            id=self.text(f"{where}.id", fields.get("id")),
            source=self.one_of(f"{where}.source", fields.get("source"), sources),
            framework=self.text(f"{where}.framework", fields.get("framework")),
            backbone=self.one_of(f"{where}.backbone", fields.get("backbone"), ("stdc1", "stdc2")),
            value=self.number(f"{where}.value", fields.get("value"), 1, 100),
            tolerance_points=self.number(
                f"{where}.tolerance_points", fields.get("tolerance_points", tolerance), 0, 100
            ),
            weights=self.one_of(f"{where}.weights", fields.get("weights"), WEIGHTS),
            protocol=PublishedProtocol(
                scales=tuple(self.number(f"{where}.protocol.scales", scale, 0, 8) for scale in scales),
                flip=self.flag(f"{where}.protocol.flip", protocol.get("flip")),
                size=self.size(f"{where}.protocol.size", protocol.get("size")),
                precision=protocol.get("precision"),
            ),
            recipe=Claim(
                preset=preset,
                iterations=claim.get("iterations"),
                global_batch=claim.get("global_batch"),
                crop=self.size(f"{where}.recipe.crop", claim["crop"]) if claim.get("crop") is not None else None,
                pretrained=self.flag(f"{where}.recipe.pretrained", claim.get("pretrained")),
            ),
            never_compared=reason,
            notes=tuple(self.text(f"{where}.notes", note) for note in fields.get("notes") or ()),
            published_with=fields.get("published_with"),
        )

    def speed(self, index: int, value: Any, sources: Mapping[str, Source]) -> PublishedSpeed:
        where = f"speeds[{index}]"
        keys = ("id", "source", "backbone", "kind", "value", "unit", "device", "size", "batch", "note")
        fields = self.mapping(where, value, keys)
        where = f"speeds.{fields.get('id', index)}"
        return PublishedSpeed(
            id=self.text(f"{where}.id", fields.get("id")),
            source=self.one_of(f"{where}.source", fields.get("source"), sources),
            backbone=self.one_of(f"{where}.backbone", fields.get("backbone"), ("stdc1", "stdc2")),
            kind=self.one_of(f"{where}.kind", fields.get("kind"), SPEED_KINDS),
            value=self.number(f"{where}.value", fields.get("value"), 0, math.inf),
            unit=self.text(f"{where}.unit", fields.get("unit")),
            device=self.text(f"{where}.device", fields.get("device")),
            size=self.size(f"{where}.size", fields.get("size")),
            batch=int(self.number(f"{where}.batch", fields.get("batch"), 1, math.inf)),
            note=self.text(f"{where}.note", fields.get("note")),
        )

    def any_mapping(self, where: str, value: Any) -> Dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.problems.append(f"{where}: {type(value).__name__} found, a mapping is expected")
        return {}

    def mapping(
        self, where: str, value: Any, required: Tuple[str, ...], optional: Tuple[str, ...] = ()
    ) -> Dict[str, Any]:
        fields = self.any_mapping(where, value)
        missing = [key for key in required if key not in fields]
        unknown = [str(key) for key in fields if key not in required and key not in optional]
        if fields and missing:
            self.problems.append(f"{where}: missing {', '.join(missing)}")
        if unknown:
            self.problems.append(f"{where}: unknown {', '.join(unknown)}")
        return fields

    def items(self, key: str, top: Mapping[str, Any]) -> List[Any]:
        value = top.get(key)
        if isinstance(value, list):
            return value
        self.problems.append(f"{key}: {type(value).__name__} found, a list is expected")
        return []

    def number(self, where: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high and value == value:
            return float(value)
        self.problems.append(f"{where}: {value!r}; a number from {low:g} to {high:g} is expected")
        return float(low)

    def text(self, where: str, value: Any) -> str:
        if isinstance(value, str) and value:
            return value
        self.problems.append(f"{where}: {value!r}; a text is expected")
        return ""

    def names(self, where: str, value: Any) -> Tuple[str, ...]:
        if not isinstance(value, list):
            self.problems.append(f"{where}: {value!r}; a list of names is expected")
            return ()
        return tuple(self.text(where, name) for name in value)

    def flag(self, where: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self.problems.append(f"{where}: {value!r}; true or false is expected")
        return bool(value)

    def size(self, where: str, value: Any) -> Size:
        if isinstance(value, list) and len(value) == 2 and all(type(side) is int and side > 0 for side in value):
            return value[0], value[1]
        self.problems.append(f"{where}: {value!r}; [height, width] in pixels is expected")
        return 1, 1

    def one_of(self, where: str, value: Any, allowed: Any) -> str:
        if value in allowed:
            return str(value)
        self.problems.append(f"{where}: {value!r} is not one of {', '.join(sorted(allowed))}")
        return str(value)
