"""What a configuration says of a run, parsed once: for the forecast, the verdict, the report, and comparisons.

A recipe that a person names by hand may leave out what the schema has a default for, so the defaults that matter here
stand here as well, and nowhere below.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Mapping, Optional, Tuple

from stdc.errors import InputError
from stdc.prediction.protocols import Protocol, read_protocols
from stdc.recipe import Evaluation, Loop, Network, TrainRecipe, part_of, resolve

SPLITS = ("train", "val")
_ONE_PROTOCOL = (Protocol("single_scale", (1.0,), False),)


@dataclasses.dataclass(frozen=True)
class Start:
    """What the training starts from.

    Attributes:
        source: as the configuration names it; None for random weights.
        sha256: of the file, as the configuration asks for it; "first-seen" where the first download is believed.
        whole: whether a whole trained network was taken (`model.init_from`), not the backbone alone.
    """

    source: Optional[str]
    sha256: Optional[str] = None
    whole: bool = False


@dataclasses.dataclass(frozen=True)
class ConfiguredRun:
    """A run as it is configured.

    Attributes:
        name: of the configuration, which names the results folder too.
        seeds: of the trainings.
        network, recipe, loop: the sections `model` and `train`, in parts.
        start: what the training starts from.
        evaluation: the section `evaluate`, without its protocols.
        protocols: at least one; the first is the main one.
        expected: what the dataset check holds the folder against: "any" or "cityscapes".
        subset: `data.subset` by split, for the splits that are not used whole.
        generated: frames by split that are drawn where no dataset is given; a split may be absent.
        micro_batch: images per forward pass; None: a device's whole share of a step.
    """

    name: str
    seeds: Tuple[int, ...]
    network: Network
    recipe: TrainRecipe
    loop: Loop
    start: Start
    evaluation: Evaluation
    protocols: Tuple[Protocol, ...]
    expected: str
    subset: Mapping[str, int]
    generated: Mapping[str, int]
    micro_batch: Optional[int]


def configured_run(config: Mapping[str, Any]) -> ConfiguredRun:
    """Parse a configuration.

    Args:
        config: a recipe, or the file of a stage that has its sections.
    Raises:
        InputError: a section or key is missing or wrong; names it.
    """
    for section in ("model", "train", "evaluate"):
        if not isinstance(config.get(section), Mapping):
            raise InputError(f"configuration: section {section!r} is missing; give a recipe of config/")
    data = config.get("data") or {}
    protocols = config["evaluate"].get("protocols")
    return ConfiguredRun(
        name=str(config.get("name")),
        seeds=tuple(config.get("seeds") or (0,)),
        network=part_of(Network, config["model"]),
        recipe=resolve(config["train"]),
        loop=part_of(Loop, config["train"]),
        start=_start(config["model"]),
        evaluation=part_of(Evaluation, config["evaluate"]),
        protocols=read_protocols(protocols) if protocols else _ONE_PROTOCOL,
        expected=str(data.get("expect") or "any"),
        subset=_counts(data.get("subset")),
        generated=_counts(config.get("synthetic")),
        micro_batch=(config.get("hardware") or {}).get("micro_batch"),
    )


def _start(model: Mapping[str, Any]) -> Start:
    whole = model.get("init_from")
    if isinstance(whole, Mapping) and whole.get("source") is not None:
        return Start(str(whole["source"]), whole.get("sha256"), whole=True)
    pretrained = model.get("pretrained") or {}
    if pretrained.get("source") is None:
        return Start(None)
    return Start(str(pretrained["source"]), pretrained.get("sha256"))


def _counts(section: Optional[Mapping[str, Any]]) -> Dict[str, int]:
    """Numbers of frames by split, of the splits that have one."""
    return {split: int(section[split]) for split in SPLITS if section and section.get(split) is not None}
