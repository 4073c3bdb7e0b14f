"""Which stored arrays belong to which parameter. Works on arrays; files are someone else's business.

A network is never left partly loaded: either every parameter gets its array, or an error names what is wrong.
"""

from __future__ import annotations

from typing import List

import numpy as np
from paddle import nn

from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.nn.segmentor import UNUSED_HEADS, SegmentationHead, Segmentor, is_unused_head_key

#: Where the backbone sits inside the segmentor.
BACKBONE_PREFIX = "cp.backbone."

#: Problems that a message names; the rest is counted.
_SHOWN = 3

#: The ImageNet classifier behind the backbone, in published backbone weights; segmentation has no use for it.
CLASSIFIER_PREFIXES = ("conv_last.", "fc.", "bn.", "linear.")


def state_arrays(model: nn.Layer) -> Arrays:
    """Every parameter and running statistic of a network by name, as arrays of its own."""
    return {name: np.array(tensor.numpy()) for name, tensor in model.state_dict().items()}


def load_segmentor(model: Segmentor, arrays: Arrays, source: str) -> List[str]:
    """Fill a whole network.

    Args:
        model: the network.
        arrays: {parameter name: array}. Heads that PaddleSeg saves and never runs are left out where `model` has none.
        source: where the arrays come from, for messages.
    Returns:
        The names left out, sorted.
    Raises:
        InputError: a parameter is missing, unknown or of another shape.
    """
    wanted = model.state_dict()
    ignored = sorted(key for key in arrays if key not in wanted and is_unused_head_key(key))
    _fill(model, {key: value for key, value in arrays.items() if key not in ignored}, source)
    return ignored


def load_backbone(model: Segmentor, arrays: Arrays, source: str) -> List[str]:
    """Fill the backbone alone, from ImageNet weights (`features.…`) or from a whole segmentor's.

    Returns:
        The names left out, sorted: an ImageNet classifier, or the rest of a segmentor.
    Raises:
        InputError: a parameter of the backbone is missing, unknown or of another shape.
    """
    if any(key.startswith(BACKBONE_PREFIX) for key in arrays):
        used = {key[len(BACKBONE_PREFIX) :]: value for key, value in arrays.items() if key.startswith(BACKBONE_PREFIX)}
        ignored = sorted(key for key in arrays if not key.startswith(BACKBONE_PREFIX))
    else:
        used = {key: value for key, value in arrays.items() if not key.startswith(CLASSIFIER_PREFIXES)}
        ignored = sorted(key for key in arrays if key.startswith(CLASSIFIER_PREFIXES))
    _fill(model.cp.backbone, used, source)
    return ignored


def with_unused_heads(arrays: Arrays) -> Arrays:
    """The same weights with the heads that PaddleSeg builds and never runs, so that all of its keys are there.

    Their values are neutral: zeros, and ones for scales and variances. Existing entries stay.
    """
    complete = dict(arrays)
    for head, channels in UNUSED_HEADS.items():
        for name, tensor in SegmentationHead(channels, 64, 1).state_dict().items():
            ones = name.endswith(("_batch_norm.weight", "_batch_norm._variance"))
            complete.setdefault(f"{head}.{name}", np.full(tensor.shape, 1.0 if ones else 0.0, dtype=np.float32))
    return complete


def _fill(model: nn.Layer, arrays: Arrays, source: str) -> None:
    wanted = {name: (tuple(tensor.shape), str(tensor.numpy().dtype)) for name, tensor in model.state_dict().items()}
    if not set(wanted) & set(arrays):
        first = next(iter(sorted(arrays)), "nothing")
        raise InputError(
            f"{source}: weights of another network: none of its {len(arrays)} entries fits "
            f"(found {first}, expected {next(iter(wanted))}, …)"
        )
    problems = [f"{name}: missing" for name in wanted if name not in arrays]
    problems += [f"{name}: no such parameter in this network" for name in sorted(arrays) if name not in wanted]
    for name, (shape, _) in wanted.items():
        if name in arrays and tuple(arrays[name].shape) != shape:
            problems.append(f"{name}: shape {tuple(arrays[name].shape)}, expected {shape}")
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(
            f"{source}: does not fit this network of {len(wanted)} parameters: {'; '.join(problems[:_SHOWN])}{more}. "
            "Is model.backbone the one that these weights were trained with?"
        )
    model.set_state_dict({name: np.asarray(arrays[name], dtype=dtype) for name, (_, dtype) in wanted.items()})
