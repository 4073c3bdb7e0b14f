"""Weights of torch code under PaddleSeg's names, which are ours.

The authors (github.com/MichaelFan01/STDC-Seg) publish `STDCNet813M_73.91.tar` and `STDCNet1446_76.47.tar` (ImageNet
backbones) and `model_maxmIOU50.pth` / `model_maxmIOU75.pth` (segmentors). mmsegmentation publishes `stdc1_….pth` (the
authors' backbones under names of its own) and `stdc1_512x1024_80k_cityscapes_….pth` (segmentors of its own training).
Works on arrays; `stdc.weights.reading` reads the files.
"""

from __future__ import annotations

import re
from typing import Dict, Optional, Set, Tuple

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

#: mmsegmentation's names for parts of a segmentor, and the authors'. `convs.N` follows `arms.N`, see `_from_mmseg`.
#: Its heads 0, 1 and 2 see the context features at 1/8 and at 1/16, and the backbone's at 1/8
#: (configs/_base_/models/stdc.py).
_MMSEG_PARTS: Dict[str, str] = {
    "backbone.conv_avg.": "cp.conv_avg.",
    "backbone.ffm.conv0.": "ffm.convblk.",
    "backbone.ffm.attention.1.conv.": "ffm.conv1.",
    "backbone.ffm.attention.2.conv.": "ffm.conv2.",
    "decode_head.convs.0.": "conv_out.conv.",
    "decode_head.conv_seg.": "conv_out.conv_out.",
    "auxiliary_head.0.convs.0.": "conv_out16.conv.",
    "auxiliary_head.0.conv_seg.": "conv_out16.conv_out.",
    "auxiliary_head.1.convs.0.": "conv_out32.conv.",
    "auxiliary_head.1.conv_seg.": "conv_out32.conv_out.",
    "auxiliary_head.2.convs.0.": "conv_out_sp8.conv.",
    "auxiliary_head.2.conv_seg.": "conv_out_sp8.conv_out.",
}
_MMSEG_STAGE = re.compile(r"(?:backbone\.backbone\.)?stages\.(\d+)\.(.+)")
#: Parts of a module inside a stage; the second pair is of mmsegmentation's first version.
_MMSEG_MODULE: Tuple[Tuple[str, str], ...] = (
    ("layers.", "conv_list."),
    ("downsample.conv.", "avd_layer.0."),
    ("downsample.bn.", "avd_layer.1."),
    ("avg_pool.conv.", "avd_layer.0."),
    ("avg_pool.bn.", "avd_layer.1."),
)
_MMSEG_ARM = re.compile(r"backbone\.(arms|convs)\.([01])\.(.+)")
_MMSEG_ARM_PARTS: Tuple[Tuple[str, str], ...] = (
    ("conv_layer.", "conv."),
    ("atten_conv_layer.1.conv.", "conv_atten."),
    ("atten_conv_layer.1.bn.", "bn_atten."),
)
#: Channels of the deepest features, which the attention module of 1/32 takes.
_DEEPEST = 1024


def convert(arrays: Arrays, inplace_abn: Optional[bool] = None) -> Arrays:
    """Arrays of any of the sources above under PaddleSeg's names; those that have its names already, as they are.

    Args:
        arrays: as a file names them.
        inplace_abn: see `convert_segmentor`; None: as far as the names show. mmsegmentation trains with torch's own
            batch norm, and so does whoever gives the decoder's convolutions a bias.
    """
    if any(map(_MMSEG_STAGE.match, arrays)):
        arrays, inplace_abn = _from_mmseg(arrays), False
    if not any(key.endswith(".running_mean") for key in arrays):
        return arrays
    if not any(key.startswith(_BACKBONE) for key in arrays):
        return convert_backbone(arrays)
    if inplace_abn is None:
        inplace_abn = "ffm.convblk.conv.bias" not in arrays
    return convert_segmentor(arrays, inplace_abn)


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


def backbone_name(arrays: Arrays) -> Optional[str]:
    """ "stdc1" or "stdc2", by the number of modules in converted weights; None for another network."""
    indices = [int(found.group(1)) for found in map(_FEATURE.match, arrays) if found]
    return {7: "stdc1", 13: "stdc2"}.get(max(indices, default=-1))


def _from_mmseg(arrays: Arrays) -> Arrays:
    """mmsegmentation's names turned into the authors'."""
    depths: Dict[int, int] = {}
    for found in filter(None, map(_MMSEG_STAGE.match, arrays)):
        module = found.group(2).split(".", 1)[0]
        if module.isdecimal() and len(module) < 3 and len(found.group(1)) < 3:
            stage = int(found.group(1))
            depths[stage] = max(depths.get(stage, 0), int(module) + 1)
    whole = any(key.startswith("backbone.backbone.") for key in arrays)
    # Which of the two attention modules is the deeper one depends on the version.
    arm = arrays.get("backbone.arms.0.conv_layer.conv.weight", np.zeros((1, _DEEPEST)))
    scales = ("32", "16") if arm.ndim > 1 and arm.shape[1] == _DEEPEST else ("16", "32")
    renamed: Arrays = {}
    for key, value in arrays.items():
        name = _mmseg_stage(key, depths)
        if name is not None:
            renamed[(_BACKBONE if whole else "") + name] = value
            continue
        found_arm = _MMSEG_ARM.fullmatch(key)
        if found_arm:
            part, number, rest = found_arm.groups()
            layer = f"cp.arm{scales[int(number)]}." if part == "arms" else f"cp.conv_head{scales[int(number)]}."
            renamed[layer + _with_prefix(rest, _MMSEG_ARM_PARTS)] = value
            continue
        name = _with_prefix(key, tuple(_MMSEG_PARTS.items()))
        if name.startswith("conv_out_sp8.conv_out.") and value.shape[:1] == (2,):
            # Its detail head has two logits, of no edge and of an edge.
            value = value[1:]
        renamed[name] = value
    return renamed


def _mmseg_stage(key: str, depths: Dict[int, int]) -> Optional[str]:
    """The authors' name of a backbone's parameter; None for any other."""
    found = _MMSEG_STAGE.fullmatch(key)
    if not found:
        return None
    stage, rest = int(found.group(1)[:2]), found.group(2)
    if stage < 2:
        return f"features.{stage}.{rest}"
    module, _, rest = rest.partition(".")
    before = sum(depth for earlier, depth in depths.items() if 2 <= earlier < stage)
    index = 2 + before + int(module) if module.isdecimal() and len(module) < 3 else -1
    return f"features.{index}.{_with_prefix(rest, _MMSEG_MODULE)}"


def _with_prefix(name: str, table: Tuple[Tuple[str, str], ...]) -> str:
    """The name with the first prefix of the table that it has replaced."""
    return next((new + name[len(old) :] for old, new in table if name.startswith(old)), name)


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
