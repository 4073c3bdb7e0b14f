"""Batch norm over all ranks, on devices where Paddle has no kernel for it.

Paddle's own `SyncBatchNorm` runs on GPUs only. The one below is made of ordinary operations and `all_reduce`, so
that "N devices train like one" can be proved on CPUs.
"""

from __future__ import annotations

from typing import Any

import paddle
import paddle.distributed as dist
from paddle import nn
from paddle.autograd import PyLayer


class _SumOverRanks(PyLayer):
    """Sum over ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(context: Any, x: paddle.Tensor) -> paddle.Tensor:
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

    Every rank must bring a batch of the same size. With one rank, and in evaluation, it is `BatchNorm2D`. The running
    variance is the biased one, as in Paddle's other batch norms.
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Normalized features, (N, C, H, W) like `x`; in training the running statistics move too."""
        if not self.training or dist.get_world_size() == 1:
            return super().forward(x)
        values = dist.get_world_size() * x.shape[0] * x.shape[2] * x.shape[3]
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


def convert_sync_batch_norm(model: nn.Layer, portable: bool) -> nn.Layer:
    """The network with synchronized batch norms; parameters and their names stay the same objects.

    Args:
        model: changed in place.
        portable: use `SyncBatchNorm2D`, which runs everywhere, instead of Paddle's faster GPU kernel.
    Returns:
        `model`.
    """
    if not portable:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in model.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2D:
                parent.add_sublayer(name, _synchronized(child))
    return model


def _synchronized(norm: nn.BatchNorm2D) -> SyncBatchNorm2D:
    synchronized = SyncBatchNorm2D(norm._num_features, momentum=norm._momentum, epsilon=norm._epsilon)
    for name in ("weight", "bias", "_mean", "_variance"):
        setattr(synchronized, name, getattr(norm, name))
    synchronized.training = norm.training
    return synchronized
