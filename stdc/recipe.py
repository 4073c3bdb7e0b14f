"""The training recipe: presets, overrides, and what follows from the global batch.

Two presets, compared side by side by `recipe_diff`:

* ``paddleseg``: PaddleSeg 2.7, ``configs/stdcseg/stdc1_seg_cityscapes_1024x512_80k.yml``; the published 0.7466 on
  BI-V100 cards belongs to it.
* ``authors``: the paper's code, github.com/MichaelFan01/STDC-Seg, ``train.py`` and ``cityscapes.py``.

The configuration states science only. Keys left null take the preset's value, so a preset is chosen by one key.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from stdc.errors import InputError

Triple = Tuple[float, float, float]

#: `ohem_min_kept` of the authors' code: one sixteenth of the pixels of a device's batch.
PIXELS_16TH = "pixels/16"


@dataclasses.dataclass(frozen=True)
class TrainRecipe:
    """Everything in the `train` section that changes the trained weights, after the preset has been filled in.

    Units: iterations are optimizer steps; sizes are pixels; rates are per step; probabilities are fractions.
    """

    preset: str
    iterations: int
    global_batch: int
    crop_height: int
    crop_width: int
    # optimizer: SGD with momentum
    base_lr: float
    momentum: float
    weight_decay: float
    weight_decay_on_norm_and_bias: bool
    head_lr_factor: float
    # schedule: warm-up, then polynomial decay
    poly_power: float
    end_lr: float
    warmup_iterations: int
    warmup_start_lr: float
    # data augmentation
    pipeline: str
    scale_min: float
    scale_max: float
    scale_step: float
    small_image: str
    pad_value: float
    flip_probability: float
    distort: str
    brightness: float
    contrast: float
    saturation: float
    hue: float
    mean: Triple
    std: Triple
    # losses
    ohem_threshold: float
    ohem_min_kept: Union[int, str]
    detail_weight: float
    # kernels
    cudnn_exhaustive_search: bool
    cudnn_batchnorm_spatial_persistent: bool
    deterministic: bool


_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)

#: Values a preset governs. Sources: the two configurations named in the module's docstring.
PRESETS: Dict[str, Dict[str, Any]] = {
    "paddleseg": {
        "base_lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 4e-5,
        "weight_decay_on_norm_and_bias": True,
        "head_lr_factor": 1.0,
        "poly_power": 0.9,
        "end_lr": 0.0,
        "warmup_iterations": 0,
        "warmup_start_lr": 0.0,
        "pipeline": "paddleseg",
        "scale_min": 0.5,
        "scale_max": 2.0,
        "scale_step": 0.25,
        "small_image": "pad",
        "pad_value": 127.5,
        "flip_probability": 0.5,
        "distort": "paddleseg",
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        # The configuration does not name the hue, so RandomDistort's own default acts: 18/256 of a turn, half the time.
        "hue": 18.0,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "ohem_threshold": 0.7,
        "ohem_min_kept": 10000,
        "detail_weight": 1.0,
    },
    "authors": {
        "base_lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "weight_decay_on_norm_and_bias": False,
        "head_lr_factor": 10.0,
        "poly_power": 0.9,
        "end_lr": 0.0,
        "warmup_iterations": 1000,
        "warmup_start_lr": 1e-5,
        "pipeline": "authors",
        "scale_min": 0.125,
        "scale_max": 1.5,
        "scale_step": 0.125,
        "small_image": "upscale",
        "pad_value": 0.0,
        "flip_probability": 0.5,
        "distort": "authors",
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
        "hue": 0.0,
        "mean": _IMAGENET_MEAN,
        "std": _IMAGENET_STD,
        "ohem_threshold": 0.7,
        "ohem_min_kept": PIXELS_16TH,
        "detail_weight": 1.0,
    },
}

#: Keys of the `train` section that the recipe takes as they are.
_PLAIN_KEYS = ("iterations", "global_batch", "crop_height", "crop_width")
_FLAG_KEYS = ("cudnn_exhaustive_search", "cudnn_batchnorm_spatial_persistent", "deterministic")


def resolve(train: Mapping[str, Any]) -> TrainRecipe:
    """The effective recipe of a `train` section: the preset's values, overridden by those given.

    Raises:
        InputError: unknown preset, a missing key, or values that contradict each other.
    """
    preset = _preset(train)
    values: Dict[str, Any] = dict(PRESETS[preset], preset=preset)
    for key in PRESETS[preset]:
        if train.get(key) is not None:
            values[key] = train[key]
    for key in _PLAIN_KEYS:
        if train.get(key) is None:
            raise InputError(f"train.{key}: missing")
        values[key] = train[key]
    for key in _FLAG_KEYS:
        values[key] = bool(train.get(key, False))
    for key in ("mean", "std"):
        values[key] = _triple(key, values[key])
    recipe = TrainRecipe(**values)
    _check(recipe)
    return recipe


def _preset(train: Mapping[str, Any]) -> str:
    preset = train.get("preset")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InputError(f"train.preset: {reprlib.repr(preset)} is not one of {', '.join(sorted(PRESETS))}")
    return preset


def normalization(train: Mapping[str, Any]) -> Tuple[Triple, Triple]:
    """(mean, std) of the RGB channels on the 0..1 scale that the weights were trained with."""
    preset = _preset(train)
    mean, std = (train.get(key) or PRESETS[preset][key] for key in ("mean", "std"))
    return _triple("mean", mean), _triple("std", std)


def per_device_batch(recipe: TrainRecipe, devices: int) -> int:
    """Images a device sees a step.

    Raises:
        InputError: the global batch cannot be divided over the devices.
    """
    if devices < 1:
        raise InputError(f"devices: {devices}; at least 1 is needed")
    if recipe.global_batch % devices:
        raise InputError(
            f"train.global_batch: {recipe.global_batch} images cannot be divided over {devices} devices; "
            f"take a multiple of {devices}, or another number of devices"
        )
    return recipe.global_batch // devices


def min_kept(recipe: TrainRecipe, device_batch: int) -> int:
    """Pixels that the OHEM loss keeps at least, for one device's batch."""
    if recipe.ohem_min_kept == PIXELS_16TH:
        return device_batch * recipe.crop_height * recipe.crop_width // 16
    return int(recipe.ohem_min_kept)


def network(model: Mapping[str, Any]) -> Dict[str, Any]:
    """Arguments of `stdc.nn.segmentor.build_segmentor` for a `model` section."""
    return {
        "backbone": model["backbone"],
        "pool_counts_padding": bool(model.get("pool_counts_padding", False)),
    }


def samples_seen(recipe: TrainRecipe) -> int:
    """Training crops drawn over the whole run."""
    return recipe.iterations * recipe.global_batch


def as_dict(recipe: TrainRecipe) -> Dict[str, Any]:
    """Plain values, for JSON and hashes."""
    values = dataclasses.asdict(recipe)
    values["mean"], values["std"] = list(recipe.mean), list(recipe.std)
    return values


def _triple(key: str, value: Any) -> Triple:
    try:
        first, second, third = (float(part) for part in value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"train.{key}: {reprlib.repr(value)}; three numbers are expected, one a channel (red, green, blue)"
        ) from None
    return first, second, third


def _wrong_type(recipe: TrainRecipe) -> Optional[str]:
    """The schema has checked a recipe that came through Snakemake; a stage's file may be anyone's."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if field.type == "int":
            least = 1 if field.name in _PLAIN_KEYS else 0
            good, expected = type(value) is int and least <= value < _LARGEST, f"a whole number from {least}"
        elif field.type in ("float", "Triple"):
            numbers = value if field.type == "Triple" else (value,)
            good = all(type(one) in (int, float) and math.isfinite(one) for one in numbers)
            expected = "a finite number"
        elif field.type == "Union[int, str]":
            good = isinstance(value, str) or (type(value) is int and 0 <= value < _LARGEST)
            expected = "a number of pixels"
        else:
            good, expected = isinstance(value, bool if field.type == "bool" else str), "a word"
        if not good:
            return f"train.{field.name}: {reprlib.repr(value)}; {expected} is expected"
    return None


#: Of whole numbers: what arrays can count.
_LARGEST = 1 << 62


def _problem(recipe: TrainRecipe) -> Optional[str]:
    if recipe.scale_min > recipe.scale_max:
        return f"train.scale_min: {recipe.scale_min} is above train.scale_max {recipe.scale_max}"
    if recipe.warmup_iterations >= recipe.iterations and recipe.warmup_iterations > 0:
        return (
            f"train.warmup_iterations: {recipe.warmup_iterations} of {recipe.iterations} iterations; "
            "the warm-up must end before the training does"
        )
    if min(recipe.std) <= 0:
        return f"train.std: {list(recipe.std)}; every value must be positive"
    if isinstance(recipe.ohem_min_kept, str) and recipe.ohem_min_kept != PIXELS_16TH:
        given = reprlib.repr(recipe.ohem_min_kept)
        return f"train.ohem_min_kept: {given}; a number of pixels or {PIXELS_16TH!r} is expected"
    if recipe.end_lr > recipe.base_lr:
        return f"train.end_lr: {recipe.end_lr} is above train.base_lr {recipe.base_lr}"
    return None


def _check(recipe: TrainRecipe) -> None:
    problem = _wrong_type(recipe) or _problem(recipe)
    if problem:
        raise InputError(problem)
