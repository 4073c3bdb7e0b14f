"""Batch norm over all ranks, on devices where Paddle has no kernel for it.

Paddle's own `SyncBatchNorm` runs on GPUs, and on plug-ins that bring a kernel. The one below is made of ordinary
operations and `all_reduce`, so that "N devices train like one" can be proved on CPUs; and it is what Paddle's is tried
against before a training relies on it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import nn
from paddle.autograd import PyLayer

#: Two ways of summing float32 values differ by less than this share of the largest value.
_TOLERANCE = 1e-3


class _SumOverRanks(PyLayer):
    """Sum over ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(context: Any, x: paddle.Tensor) -> paddle.Tensor:
        """The sum, of the shape of `x`: here (C,), one number per channel."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm2D(nn.BatchNorm2D):
    """Batch norm whose statistics are taken over the batches of all ranks.

    With one rank, and in evaluation, it is `BatchNorm2D`. The running variance is the biased one, as in Paddle's other
    batch norms.

    Attributes:
        unequal: whether ranks may bring batches of different sizes, whose sum then takes a collective of its own.
    """

    unequal = False

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Normalize, and in training move the running statistics.

        Args:
            x: features, (N, C, H, W); N may differ between ranks where `unequal` is set.
        Returns:
            (N, C, H, W).
        """
        if not self.training or dist.get_world_size() == 1:
            return super().forward(x)
        values = self._images(x.shape[0]) * x.shape[2] * x.shape[3]
        axes = [0, 2, 3]
        mean = _SumOverRanks.apply(x.sum(axis=axes)) / values  # (C,)
        centered = x - mean.reshape([1, -1, 1, 1])
        # Two passes: the difference of two large sums would lose the variance of features far from zero.
        variance = _SumOverRanks.apply((centered * centered).sum(axis=axes)) / values  # (C,)
        with paddle.no_grad():
            for running, batch in ((self._mean, mean), (self._variance, variance)):
                paddle.assign(self._momentum * running + (1.0 - self._momentum) * batch, running)
        scale = (self.weight * paddle.rsqrt(variance + self._epsilon)).reshape([1, -1, 1, 1])
        return centered * scale + self.bias.reshape([1, -1, 1, 1])

    def _images(self, count: int) -> Any:
        """Images of all ranks: a number, or a tensor of one."""
        if not self.unequal:
            return dist.get_world_size() * count
        with paddle.no_grad():
            images = paddle.full([1], float(count), "float32")
            dist.all_reduce(images)
        return images


def convert_sync_batch_norm(model: nn.Layer, portable: bool, unequal: bool = False) -> nn.Layer:
    """The network with synchronized batch norms; parameters and their names stay the same objects.

    Args:
        model: changed in place.
        portable: use `SyncBatchNorm2D`, which runs everywhere, instead of Paddle's faster kernel.
        unequal: whether ranks bring batches of different sizes. Paddle's kernel gives each rank the same weight.
    Returns:
        `model`.
    Raises:
        ValueError: unequal batches for Paddle's kernel.
    """
    if not portable and unequal:
        raise ValueError("Paddle's synchronized batch norm takes equal batches only")
    if not portable:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in model.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2D:
                parent.add_sublayer(name, _synchronized(child, unequal))
    return model


def find_difference(other: Callable[[int], nn.Layer]) -> str:
    """What another synchronized batch norm computes otherwise than `SyncBatchNorm2D`; every rank calls this.

    Args:
        other: makes one from a number of channels, for example `paddle.nn.SyncBatchNorm`.
    Returns:
        In words, for this rank; empty where both agree in outputs, gradients and running statistics.
    """
    ours = _try_out(SyncBatchNorm2D)
    try:
        theirs = _try_out(other)
    except Exception as error:
        # A plug-in without one of the kernels raises errors of several types.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = next((line for line in reversed(lines) if "rror" in line or "not registered" in line), "")
        return f"{type(error).__name__}: {telling[:200]}"
    for name, expected in ours.items():
        largest = float(np.abs(expected).max())
        difference = float(np.abs(theirs[name] - expected).max())
        if not difference <= _TOLERANCE * largest:
            return f"{name} differs by {difference:.1e} of {largest:.1e}"
    return ""


def _try_out(make: Callable[[int], nn.Layer]) -> Dict[str, np.ndarray]:
    """Everything that a training takes from a batch norm, on values of this rank."""
    channels = 4
    # Each rank draws values around another mean, so that a kernel which normalizes by its own rank's batch is noticed.
    random = np.random.RandomState(dist.get_rank())
    values = random.standard_normal((2, channels, 6, 5)) + dist.get_rank()
    weights = random.standard_normal(values.shape)
    norm = make(channels)
    norm.train()
    images = paddle.to_tensor(values.astype(np.float32), stop_gradient=False)
    outputs = norm(images)
    (outputs * paddle.to_tensor(weights.astype(np.float32))).sum().backward()
    found = {
        "output": outputs,
        "gradient of the input": images.grad,
        "gradient of the weight": norm.weight.grad,
        "gradient of the bias": norm.bias.grad,
        "running mean": norm._mean,
        "running variance": norm._variance,
    }
    return {name: value.numpy() for name, value in found.items()}


def _synchronized(norm: nn.BatchNorm2D, unequal: bool) -> SyncBatchNorm2D:
    synchronized = SyncBatchNorm2D(norm._num_features, momentum=norm._momentum, epsilon=norm._epsilon)
    synchronized.unequal = unequal
    for name in ("weight", "bias", "_mean", "_variance"):
        setattr(synchronized, name, getattr(norm, name))
    synchronized.training = norm.training
    return synchronized
