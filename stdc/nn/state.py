"""Which stored arrays belong to which parameter. Works on arrays; files are someone else's business.

A network is never left partly loaded: either every parameter gets its array, or an error names what is wrong.
"""

from __future__ import annotations

import re
from typing import List, Sequence, Tuple

import numpy as np
from paddle import nn

from stdc.arrays import Arrays
from stdc.errors import InputError, shortened
from stdc.nn.segmentor import UNUSED_HEADS, SegmentationHead, Segmentor, is_unused_head_key

#: Where the backbone sits inside the segmentor.
BACKBONE_PREFIX = "cp.backbone."

#: Heads whose last layer has one output per class.
CLASS_HEADS = ("conv_out", "conv_out8", "conv_out16")

#: What names of parameters tell about networks that are mistaken for this one.
_OTHER_NETWORKS: Sequence[Tuple[str, str]] = (
    (r"(ppseg_head|backbone\.features)\.", "PP-LiteSeg, which has an STDC backbone and another decoder"),
    (r"(backbone\.)?(layer[1-4]\.\d+\.|bn1\.|stage\d\.\d+\.conv)", "a ResNet or a network on one"),
    (r"(detail|semantic_branch|bga|segment)\.", "BiSeNetV2"),
    (r"(backbone\.)?(blocks|layers|stages)\.\d+\..*(attn|norm\d|mlp)", "a transformer"),
    (r"(backbone\.)?features\.\d+\.(weight|\d+\.)", "VGG or MobileNet"),
)

#: Problems that a message names; the rest is counted.
_SHOWN = 3

#: The ImageNet classifier behind the backbone, in published backbone weights; segmentation has no use for it.
CLASSIFIER_PREFIXES = ("conv_last.", "fc.", "bn.", "linear.")


def state_arrays(model: nn.Layer) -> Arrays:
    """Every parameter and running statistic of a network by name, as arrays of its own."""
    return {name: np.array(tensor.numpy()) for name, tensor in model.state_dict().items()}


def is_whole(arrays: Arrays) -> bool:
    """Whether arrays are a whole segmentor's, by their names."""
    return any(key.startswith(BACKBONE_PREFIX) for key in arrays)


def load_segmentor(model: Segmentor, arrays: Arrays, source: str) -> List[str]:
    """Fill a whole network.

    Args:
        model: the network.
        arrays: {parameter name: array}. Heads that PaddleSeg saves and never runs are left out where `model` has none.
        source: where the arrays come from, for messages.
    Returns:
        The names left out, sorted.
    Raises:
        InputError: a parameter is missing, unknown or of another shape, or a backbone alone is given.
    """
    if arrays and all(key.startswith(("features.", *CLASSIFIER_PREFIXES)) for key in arrays):
        raise InputError(
            f"{source}: a backbone alone (ImageNet weights), and a whole segmentation network is expected; "
            "model.pretrained starts a training from a backbone"
        )
    wanted = model.state_dict()
    ignored = sorted(key for key in arrays if key not in wanted and is_unused_head_key(key))
    _fill(model, {key: value for key, value in arrays.items() if key not in ignored}, source)
    return ignored


def load_backbone(model: Segmentor, arrays: Arrays, source: str) -> List[str]:
    """Fill the backbone alone, from ImageNet weights (`features.…`).

    Returns:
        The names left out, sorted: an ImageNet classifier.
    Raises:
        InputError: a parameter of the backbone is missing, unknown or of another shape; or a whole network is given,
            whose decoder would be lost in silence.
    """
    if is_whole(arrays):
        raise InputError(
            f"{source}: a whole segmentation network of {len(arrays)} arrays, and a backbone alone is expected "
            "(model.pretrained); to go on from a trained network, name it in model.init_from"
        )
    ignored = sorted(key for key in arrays if key.startswith(CLASSIFIER_PREFIXES))
    _fill(model.cp.backbone, {key: value for key, value in arrays.items() if key not in ignored}, source)
    return ignored


def load_initial(model: Segmentor, arrays: Arrays, source: str) -> List[str]:
    """Fill a network from a trained one that may tell other classes apart.

    Returns:
        The names of the class layers that were left as they are, sorted: of another number of classes, or missing.
    Raises:
        InputError: any other parameter is missing, unknown or of another shape.
    """
    own = model.state_dict()
    layers = [f"{head}.conv_out.{leaf}" for head in CLASS_HEADS for leaf in ("weight", "bias")]
    # All but the first axis, the classes, must fit: another width is another network.
    dropped = sorted(
        name
        for name in layers
        if name not in arrays
        or (arrays[name].shape[1:] == tuple(own[name].shape[1:]) and arrays[name].shape != tuple(own[name].shape))
    )
    kept = {name: value for name, value in arrays.items() if name not in dropped}
    if is_whole(arrays):
        kept.update({name: own[name].numpy() for name in dropped})
    load_segmentor(model, kept, source)
    return dropped


def load_start(model: Segmentor, arrays: Arrays, source: str) -> None:
    """Put what a training starts from into a new network: a whole network's weights, or a backbone's.

    Raises:
        InputError: see `load_initial` and `load_backbone`.
    """
    (load_initial if is_whole(arrays) else load_backbone)(model, arrays, source)


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
        first = shortened(next(iter(sorted(arrays)), "nothing"))
        known = next((words for names, words in _OTHER_NETWORKS if any(re.match(names, key) for key in arrays)), "")
        raise InputError(
            f"{source}: weights of another network{known and f' ({known})'}: none of its {len(arrays)} entries fits "
            f"(found {first}, expected {next(iter(wanted))}, …)"
        )
    problems = [f"{name}: missing" for name in wanted if name not in arrays]
    problems += [
        f"{shortened(name)}: no such parameter in this network" for name in sorted(arrays) if name not in wanted
    ]
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
