"""SGD with momentum over two or four groups of parameters, and its state by structured names."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np
import paddle

from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.recipe import Optimizer

#: First parts of the names of layers that are new in the segmentor, so that the authors train them faster.
#: Source: `get_params` in the authors' `model_stages.py`: heads and feature fusion.
HEAD_LAYERS = (
    "ffm",
    "conv_out",
    "conv_out8",
    "conv_out16",
    "conv_out_sp8",
    "conv_out_sp16",
    "conv_out_sp4",
    "conv_out_sp2",
)

_NORMS = (paddle.nn.BatchNorm2D, paddle.nn.SyncBatchNorm)


#: The schedule gives the rate before each step; a step without it changes nothing.
_NO_RATE = 0.0

#: One kernel updates many parameters: two launches instead of 147. The bytes are those of single updates.
_FUSED = True


def build_optimizer(model: paddle.nn.Layer, settings: Optimizer) -> paddle.optimizer.Momentum:
    """Momentum SGD for a segmentor.

    Args:
        model: a segmentor of `stdc.nn.segmentor`; parameters without gradient are left out.
        settings: the recipe's part.
    Returns:
        An optimizer without a learning rate: `set_lr` before each step gives it the schedule's.
    """
    groups: Dict[tuple, List[Any]] = {}
    undecayed = set() if settings.weight_decay_on_norm_and_bias else _undecayed(model)
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:
            continue
        decay = 0.0 if name in undecayed else settings.weight_decay
        factor = settings.head_lr_factor if name.split(".", 1)[0] in HEAD_LAYERS else 1.0
        groups.setdefault((factor, decay), []).append(parameter)
    if len(groups) == 1:
        ((_, decay), parameters), *_ = groups.items()
        return paddle.optimizer.Momentum(
            _NO_RATE, settings.momentum, parameters, weight_decay=decay, use_multi_tensor=_FUSED
        )
    described = [
        {"params": parameters, "learning_rate": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    return paddle.optimizer.Momentum(_NO_RATE, settings.momentum, described, use_multi_tensor=_FUSED)


def optimizer_arrays(optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer) -> Arrays:
    """The accumulators of all trained parameters, as {"<structured parameter name>.velocity": array}.

    Paddle names them by counters of layers and optimizers made so far in the process, which is no name to keep.

    Raises:
        RuntimeError: called before the first step, or on a second optimizer of a process.
    """
    stored = optimizer.state_dict()
    arrays = {}
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:
            continue
        key = _velocity_key(parameter.name)
        if key not in stored:
            # Without this error, such a checkpoint would be resumed with a momentum of zero.
            raise RuntimeError(
                f"no accumulator of {name}: the first step is not done, or this is not the process's first optimizer"
            )
        arrays[f"{name}.velocity"] = np.asarray(stored[key].numpy())
    return arrays


def restore_optimizer(optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer, arrays: Mapping[str, Any]) -> None:
    """Put saved accumulators back.

    Raises:
        InputError: the arrays belong to another network.
    """
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    state = {}
    for key, array in arrays.items():
        name = key.rsplit(".", 1)[0]
        if name not in names:
            raise InputError(f"optimizer state of {name}, which this network does not have")
        state[_velocity_key(names[name])] = paddle.to_tensor(array)
    optimizer.set_state_dict(state)


def _velocity_key(parameter_name: str) -> str:
    return f"{parameter_name}_velocity_0"


def _undecayed(model: paddle.nn.Layer) -> set:
    """Names of normalization parameters and of biases."""
    names = {name for name, _ in model.named_parameters() if name.rsplit(".", 1)[-1] == "bias"}
    for prefix, layer in model.named_sublayers():
        if isinstance(layer, _NORMS) or type(layer).__name__.startswith("SyncBatchNorm"):
            names |= {f"{prefix}.{name}" for name, _ in layer.named_parameters(include_sublayers=False)}
    return names
