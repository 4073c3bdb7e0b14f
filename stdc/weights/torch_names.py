"""Weights of the authors' torch code under PaddleSeg's names.

github.com/MichaelFan01/STDC-Seg publishes `STDCNet813M_73.91.tar` and `STDCNet1446_76.47.tar` (ImageNet backbones) and
`model_maxmIOU50.pth` / `model_maxmIOU75.pth` (segmentors). PaddleSeg, whose names ours are, calls the same parameters
otherwise. Works on arrays; `stdc.weights.torch_files` reads the files.
"""

from __future__ import annotations

import re
from typing import Optional, Set

import numpy as np

from stdc.arrays import Arrays

#: Added by in-place activated batch norm to the absolute value of its scale (mapillary/inplace_abn before version 1).
INPLACE_ABN_EPSILON = 1e-5

#: How the authors name the auxiliary heads, and how PaddleSeg does: by the scale of the output, or of the input.
_HEAD_NAMES = {"conv_out16": "conv_out8", "conv_out32": "conv_out16"}

#: In the authors' network a second name for the same stages, and the ImageNet classifier behind them.
_BACKBONE_EXTRAS = re.compile(r"(x2|x4|x8|x16|x32|conv_last|fc|bn|linear)\.")
_FEATURE = re.compile(r"(?:cp\.backbone\.)?features\.(\d+)\.")
_NORM_NAMES = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
_BACKBONE = "cp.backbone."


def convert_backbone(arrays: Arrays) -> Arrays:
    """The authors' ImageNet backbone under PaddleSeg's names; the classifier is left out."""
    converted: Arrays = {}
    for key, value in arrays.items():
        if _BACKBONE_EXTRAS.match(key):
            continue
        unit, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        converted[f"{unit}.{_NORM_NAMES.get(leaf, leaf)}"] = _as_float32(value)
    return converted


def convert_segmentor(arrays: Arrays, inplace_abn: bool = True) -> Arrays:
    """The authors' whole network under PaddleSeg's names.

    Args:
        arrays: as `read_torch` returns them.
        inplace_abn: the batch norms outside the backbone were trained as the authors' code trains them, by in-place
            activated batch norm, which scales by |weight| + 1e-5. False for checkpoints trained with torch's own.
    Returns:
        Every parameter of PaddleSeg's network; convolutions outside the backbone get the bias 0 that the authors' lack.
    """
    backbone = {key[len(_BACKBONE) :]: value for key, value in arrays.items() if key.startswith(_BACKBONE)}
    converted = {_BACKBONE + key: value for key, value in convert_backbone(backbone).items()}
    decoder = {key: value for key, value in arrays.items() if not key.startswith(_BACKBONE)}
    norms = {key.rpartition(".")[0] for key in decoder if key.endswith(".running_mean")}
    for key, value in decoder.items():
        layer, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        array = _as_float32(value)
        if layer in norms and leaf == "weight" and inplace_abn:
            array = np.abs(array) + np.float32(INPLACE_ABN_EPSILON)
        name = _decoder_layer(layer, norms)
        converted[f"{name}.{_NORM_NAMES.get(leaf, leaf)}"] = array
        if array.ndim == 4:
            converted.setdefault(f"{name}.bias", np.zeros(array.shape[0], np.float32))
    return converted


def convert(arrays: Arrays, inplace_abn: bool = True) -> Arrays:
    """`convert_segmentor` or `convert_backbone`, whichever the names ask for."""
    if any(key.startswith(_BACKBONE) for key in arrays):
        return convert_segmentor(arrays, inplace_abn)
    return convert_backbone(arrays)


def backbone_name(arrays: Arrays) -> Optional[str]:
    """ "stdc1" or "stdc2", by the number of modules in converted weights; None for another network."""
    indices = [int(found.group(1)) for found in map(_FEATURE.match, arrays) if found]
    return {7: "stdc1", 13: "stdc2"}.get(max(indices, default=-1))


def _decoder_layer(layer: str, norms: Set[str]) -> str:
    head, dot, rest = layer.partition(".")
    unit, _, leaf = layer.rpartition(".")
    name = _HEAD_NAMES.get(head, head) + dot + rest
    # A block is a convolution `conv` beside a norm `bn`; layers of other names are not wrapped.
    if f"{unit}.bn" in norms and leaf in ("conv", "bn"):
        return name.rpartition(".")[0] + ("._conv" if leaf == "conv" else "._batch_norm")
    return name


def _as_float32(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value, dtype=np.float32)
