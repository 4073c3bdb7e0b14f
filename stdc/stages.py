"""The stages' JSON files, parsed and checked once, at the programs' door.

A rule writes for each stage the sections of the configuration that it depends on (`STAGES` in
`workflow/rules/common.smk`). A program reads its file here into a frozen dataclass; below the door no mapping is passed
on. The file of `report` is read by `stdc.results.folder.read_report_stage`, because comparisons read it too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

from stdc.errors import InputError
from stdc.files import read_json, read_text
from stdc.prediction.protocols import Protocol, read_protocols
from stdc.recipe import (
    Evaluation,
    Kernels,
    Loop,
    Network,
    Speed,
    TrainRecipe,
    Triple,
    kernels_of,
    normalization,
    part_of,
    resolve,
)

#: The network halves the image five times, so a smaller crop leaves its last stage without a pixel.
_LEAST_CROP = 32
#: Of a recipe's YAML: values, each alias counted as what it stands for, and levels.
_MOST_VALUES, _DEEPEST = 10_000, 20


@dataclasses.dataclass(frozen=True)
class TrainStage:
    """What `train` reads.

    Attributes:
        network, recipe, loop: the sections `model` and `train`, in parts.
        separator: between the two paths on a line of the lists.
        document: the file's content, for the provenance.
    """

    network: Network
    recipe: TrainRecipe
    loop: Loop
    separator: str
    document: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class EvaluateStage:
    """What `evaluate` and `predict` read.

    Attributes:
        network: the section `model`.
        mean, std: normalization of red, green and blue that the weights were trained with, on the scale 0 to 1.
        kernels: those of the training; evaluation takes the same.
        evaluation: the section `evaluate`, without its protocols.
        protocols: at least one; the first is the main one.
        separator: between the two paths on a line of the lists.
    """

    network: Network
    mean: Triple
    std: Triple
    kernels: Kernels
    evaluation: Evaluation
    protocols: Tuple[Protocol, ...]
    separator: str


@dataclasses.dataclass(frozen=True)
class SpeedStage:
    """What `measure_speed` reads.

    Attributes:
        network: the section `model`.
        kernels: those of the training; inference is timed with the same.
        speed: the section `speed`.
    """

    network: Network
    kernels: Kernels
    speed: Speed


def read_train_stage(path: Path) -> TrainStage:
    """Read the sections `model`, `train`, and `data`.

    Raises:
        InputError: names the file and the key that is missing or wrong.
    """
    document = read_sections(path, "model", "train", "data")
    try:
        recipe = resolve(document["train"])
        for key in ("crop_height", "crop_width"):
            crop = getattr(recipe.augmentation, key)
            if crop < _LEAST_CROP:
                raise InputError(f"train.{key}: {crop} pixels; the network needs at least {_LEAST_CROP}")
        return TrainStage(
            network=part_of(Network, document["model"]),
            recipe=recipe,
            loop=part_of(Loop, document["train"]),
            separator=_separator(document["data"]),
            document=document,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_configuration(path: Path) -> Dict[str, Any]:
    """A recipe's YAML or a stage's JSON, as the programs take either that a person starts by hand.

    Raises:
        InputError: missing, unreadable, or not a table of sections; names the file.
    """
    if path.suffix in (".yaml", ".yml"):
        try:
            import yaml
        except ImportError as error:
            raise InputError(f"{path}: reading a recipe needs PyYAML ({error}); run make setup") from None
        try:
            config = _parse_yaml(yaml, read_text(path, "YAML"))
        except RecursionError:
            raise InputError(f"{path}: not readable as YAML (nested too deeply)") from None
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
        _check_extent(path, config)
    else:
        config = read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: sections such as train and evaluate are expected, found {type(config).__name__}")
    return config


def _parse_yaml(yaml: Any, text: str) -> Any:
    """The value of a YAML document in which no key is said twice."""
    waiting, seen = [yaml.compose(text, Loader=yaml.SafeLoader)], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            names = [str(name.value) for name, _ in node.value]
            for name in names:
                if names.count(name) > 1:
                    raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {name} is given twice; one would be lost")
            waiting += [value for _, value in node.value]
    return yaml.safe_load(text)


def _check_extent(path: Path, value: Any) -> None:
    """Refuse what aliases blow up: a value that holds itself, or thousands of copies of one."""
    waiting, count = [(value, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise InputError(
                f"{path}: more than {_MOST_VALUES} values or {_DEEPEST} levels, with what aliases stand for"
            )
        inner = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
        waiting += [(part, depth + 1) for part in inner]


def read_evaluate_stage(path: Path) -> EvaluateStage:
    """Read the sections `model`, `train`, `evaluate` and `data`.

    Raises:
        InputError: names the file and the key that is missing or wrong.
    """
    document = read_sections(path, "model", "train", "evaluate", "data")
    try:
        mean, std = normalization(document["train"])
        return EvaluateStage(
            network=part_of(Network, document["model"]),
            mean=mean,
            std=std,
            kernels=kernels_of(document["train"]),
            evaluation=part_of(Evaluation, document["evaluate"]),
            protocols=read_protocols(document["evaluate"].get("protocols")),
            separator=_separator(document["data"]),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_speed_stage(path: Path) -> SpeedStage:
    """Read the sections `model`, `train` (its kernels alone) and `speed`.

    Raises:
        InputError: names the file and the key that is missing or wrong.
    """
    document = read_sections(path, "model", "train", "speed")
    try:
        return SpeedStage(
            network=part_of(Network, document["model"]),
            kernels=kernels_of(document["train"]),
            speed=part_of(Speed, document["speed"]),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_sections(path: Path, *names: str) -> Dict[str, Any]:
    """A stage's file, with at least these sections.

    Raises:
        InputError: not a stage's file, or a section is missing; names both.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path}: not a stage's configuration; an object with {', '.join(names)} is expected")
    for name in names:
        if not isinstance(document.get(name), dict):
            raise InputError(f"{path}: section {name!r} is missing or has no keys")
    return document


def _separator(data: Mapping[str, Any]) -> str:
    separator = data.get("separator")
    if not isinstance(separator, str) or not separator:
        raise InputError(f"data.separator: {separator!r}; one or more characters are expected, such as a comma")
    return separator
