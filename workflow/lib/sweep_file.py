"""A sweep: one file that names recipes, seeds and overrides, and the experiments that follow from it.

Plain Python beside Snakemake; nothing here is used by the programs.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import configuration
import recipe_files

Source = Tuple[str, Any]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
#: What a recipe that runs alone leaves in its results folder.
_RESERVED = re.compile(r"config|export|predictions|seed\d+")

#: Keys that an override cannot change, and who says what they are instead.
_NOT_OVERRIDDEN = {
    "name": "results lie in results/<sweep>/<variant>",
    "sweep": "a sweep is made of recipes, not of sweeps",
    "seeds": "they stand at the top of the sweep, the same for every variant",
    "weights": "a sweep trains; weights that exist are judged one by one",
}
#: Keys that have one value in a whole sweep, and why.
_SHARED = (
    (("hardware",), "the machine is the same for all of them"),
    (("dataset",), "scores on different images cannot be compared"),
    (("synthetic",), "scores on different images cannot be compared"),
    (("data", "expect"), "the dataset is checked once"),
    (("train", "evaluate"), "all experiments leave the same files"),
    (("train", "visualdl"), "all experiments leave the same files"),
)


class SweepError(Exception):
    """A sweep that cannot be used.

    Attributes:
        problems: one line each, with the file and the key.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a file says.

    Attributes:
        recipes: paths; empty for the recipe of the command line.
        seeds: None for the recipe's.
        variants: name -> keys of the recipe that it changes.
    """

    source: str
    name: str
    recipes: Sequence[str]
    seeds: Optional[Sequence[int]]
    variants: Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One recipe under one override, before its defaults are filled in.

    Attributes:
        name: of its folder.
        recipe: where it comes from, as a person names it.
        config: the merged configuration.
        sources: (name, content) of what was merged, later ones win.
        changes: the keys that its override states.
    """

    name: str
    recipe: str
    config: Dict[str, Any]
    sources: Sequence[Source]
    changes: Mapping[str, Any]


def read(path: Path, schema: Mapping[str, Any]) -> Sweep:
    """A sweep.

    Args:
        schema: workflow/schemas/sweep.schema.yaml.
    Raises:
        SweepError: it is no file, no YAML, or says something that it cannot.
        OSError: it cannot be read now.
    """
    try:
        content = recipe_files.read(path)
    except recipe_files.RecipeError as error:
        raise SweepError([str(error)]) from None
    problems = configuration.problems(content, schema, [(str(path), content)])
    overrides = content.get("overrides", {})
    for variant, keys in overrides.items() if isinstance(overrides, dict) else ():
        where = f"{path}: overrides.{variant}"
        if not isinstance(variant, str) or not _NAME.fullmatch(variant) or _RESERVED.fullmatch(variant):
            problems.append(
                f"{where}: not a name for a folder of results; letters, digits and . _ - are, but neither config, "
                "export, predictions nor seed<number>"
            )
        for key in _NOT_OVERRIDDEN if isinstance(keys, dict) else ():
            if key in keys:
                problems.append(f"{where}.{key}: cannot be overridden; {_NOT_OVERRIDDEN[key]}")
    if problems:
        raise SweepError(problems)
    return Sweep(str(path), content["name"], content.get("recipes", ()), content.get("seeds"), overrides)


def experiments(sweep: Sweep, base: Sequence[Source], words: Source) -> List[Experiment]:
    """The experiments of a sweep, every override for each recipe.

    Args:
        base: recipes of the command line, used where the sweep names none; later ones win.
        words: those of `--config`, which win over everything.
    Raises:
        SweepError: a recipe is unreadable or has no name, or two experiments would lie in one folder.
        OSError: a recipe cannot be read now.
    """
    recipes = [[_recipe(sweep, path)] for path in sweep.recipes] or [list(base)]
    for key in ("name", "weights"):
        if key in words[1]:
            raise SweepError([f"{words[0]}: {key}: not beside a sweep; {_NOT_OVERRIDDEN[key]}"])
    found: List[Experiment] = []
    for layers, (variant, changes) in itertools.product(recipes, (sweep.variants or {"": {}}).items()):
        own = configuration.merged(*(content for _, content in layers))
        label = own.get("name")
        several = len(recipes) > 1 or not variant
        if several and (not isinstance(label, str) or not _NAME.fullmatch(label) or _RESERVED.fullmatch(label)):
            raise SweepError(
                [f"{layers[-1][0]}: name: {label!r}; it names a folder of the sweep: 1 to 60 letters and digits"]
            )
        top: Source = (sweep.source, {} if sweep.seeds is None else {"seeds": list(sweep.seeds)})
        sources = [*layers, top, (f"{sweep.source}: overrides.{variant}", changes), words]
        config = {**configuration.merged(*(content for _, content in sources)), "sweep": None}
        name = "-".join(part for part in (label if several else "", variant) if part)
        found.append(Experiment(name, " + ".join(source for source, _ in layers), config, sources, changes))
    names = [experiment.name for experiment in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SweepError(
            [
                f"{sweep.source}: recipes: results/{sweep.name}/{name} would hold two experiments; give their recipes "
                "names of their own"
                for name in twice
            ]
        )
    return found


def contradictions(sweep: Sweep, found: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """What no experiment shows alone: values that must be one, and trainings that are the same.

    Args:
        found: experiment -> its whole configuration, checked and with defaults.
    """
    lines = []
    first, base = next(iter(found.items()))
    for name, config in found.items():
        for path, reason in _SHARED:
            for key, one, other in _differences(path, _value(base, path), _value(config, path)):
                lines.append(
                    f"{sweep.source}: {name}: {'.'.join(key)} is {json.dumps(other)}, but {json.dumps(one)} in "
                    f"{first}; one sweep has one value of it: {reason}"
                )
        if config["weights"] is not None:
            lines.append(f"{sweep.source}: {name}: weights: {_NOT_OVERRIDDEN['weights']}")
    seen: Dict[str, str] = {}
    for name, config in found.items():
        text = json.dumps([config["model"], config["train"], config["data"]], sort_keys=True)
        if text in seen:
            lines.append(
                f"{sweep.source}: {seen[text]} and {name} are the same training; change something in one of them, or "
                "leave it out (one training is scored in several ways by evaluate.protocols)"
            )
        seen.setdefault(text, name)
    return lines


def table(sweep: Sweep, found: Sequence[Experiment], seeds: Sequence[int]) -> List[str]:
    """The experiments for a terminal, one line each."""
    trainings = f"{_counted(found, 'experiment')} x {_counted(seeds, 'seed')} = {len(found) * len(seeds)} trainings"
    lines = [f"sweep {sweep.name}: {trainings}, into results/{sweep.name}"]
    columns = [(one.name, one.recipe, ", ".join(changes_of(one.changes)) or "the recipe as it is") for one in found]
    widths = [max(len(row[place]) for row in columns) for place in (0, 1)]
    return lines + [f"  {name:<{widths[0]}}  {recipe:<{widths[1]}}  {change}" for name, recipe, change in columns]


def told_once(lines: Mapping[str, Sequence[str]]) -> List[str]:
    """What is to be said of several experiments: once what holds for all of them, the rest with the experiment's name.

    Args:
        lines: experiment -> "subject: words", one line each.
    """
    found: List[str] = []
    for name, own in lines.items():
        for line in own:
            everyone = all(line in other for other in lines.values())
            subject, colon, words = line.partition(": ")
            text = line if everyone or not colon else f"{subject}: {name}: {words}"
            if text not in found:
                found.append(text)
    return found


def changes_of(changes: Mapping[str, Any], path: str = "") -> List[str]:
    """ "train.base_lr=0.02", one for each value that an override states."""
    found: List[str] = []
    for key, value in changes.items():
        if isinstance(value, Mapping) and value:
            found += changes_of(value, f"{path}{key}.")
        else:
            found.append(f"{path}{key}={value if isinstance(value, str) else json.dumps(value)}")
    return found


def _counted(things: Sequence[Any], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _recipe(sweep: Sweep, path: str) -> Source:
    try:
        content = recipe_files.read(Path(path))
    except recipe_files.RecipeError as error:
        raise SweepError([f"{sweep.source}: recipes: {error}"]) from None
    return path, content


def _value(config: Mapping[str, Any], path: Sequence[str]) -> Any:
    for key in path:
        config = config[key]
    return config


def _differences(path: Sequence[str], one: Any, other: Any) -> Iterator[Tuple[Sequence[str], Any, Any]]:
    """(key, value, other value) of all that differs between two sections, which have the same keys."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in one:
            yield from _differences((*path, key), one[key], other[key])
    elif one != other:
        yield path, one, other
