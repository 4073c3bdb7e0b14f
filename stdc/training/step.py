"""One optimizer step of one rank: forward, losses, backward, update.

This file and what it calls is the arithmetic of the training; `stdc.training.identity` hashes it.
"""

from __future__ import annotations

import contextlib
from typing import ContextManager, Dict, List, Optional, Tuple

import numpy as np
import paddle

from stdc.nn.losses import read_counts, segmentation_loss
from stdc.nn.segmentor import SegmentorOutputs
from stdc.nn.sync_batch_norm import convert_sync_batch_norm
from stdc.recipe import TrainRecipe
from stdc.seeds import derived_seed
from stdc.training.loss_scale import LossScale
from stdc.training.moving_average import MovingAverage
from stdc.training.optimizer import build_optimizer
from stdc.training.schedule import learning_rate


class Pending:
    """What a step computed, on the device until it is read.

    Args:
        iteration: the step, 0 for the first.
        names: of the loss parts.
        values: (len(names) + 1,), float32, summed over ranks: the loss parts, each weighed by its images, then how many
            ranks want to stop.
        world_size: number of ranks.
    """

    def __init__(self, iteration: int, names: List[str], values: paddle.Tensor, world_size: int) -> None:
        self.iteration, self.values = iteration, values
        self._names, self._world_size = names, world_size
        self._on_host: Optional[np.ndarray] = None

    def arrived(self, on_host: np.ndarray) -> None:
        """The values came with another transfer."""
        self._on_host = on_host

    def read(self) -> Tuple[Dict[str, float], bool]:
        """The loss parts, averaged over the step's images, and whether to stop.

        Costs nothing once the next step has run; before that, one transfer, which waits for all that the device was
        asked for.
        """
        if self._on_host is None:
            self._on_host = self.values.numpy()
        *means, stops = (self._on_host.astype(np.float64) / self._world_size).tolist()
        return dict(zip(self._names, means)), stops > 0.0


class Step:
    """Trains a network step by step.

    Args:
        model: the segmentor, on its device; with several ranks its batch norms are made to see the whole batch.
        recipe: the training recipe.
        seed: of the run.
        rank, world_size: this process among those that share the global batch.
        portable_sync_batch_norm: whether several ranks synchronize batch norms by collectives of ours, where Paddle has
            no kernel for it. It takes ranks with unequal numbers of images too.
        micro_batch: images per forward pass at most. Where a step has more, it is divided into parts, as evenly as can
            be, and their gradients are averaged; batch norm and the mining of hard pixels then see one part at a time.

    Where parts or ranks have unequal numbers of images, each part's loss is weighed by its images.
    """

    def __init__(
        self,
        model: paddle.nn.Layer,
        recipe: TrainRecipe,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        portable_sync_batch_norm: bool = True,
        micro_batch: int,
    ) -> None:
        self.recipe, self.seed, self.rank, self.world_size = recipe, seed, rank, world_size
        self.micro_batch = micro_batch
        self._passes = recipe.schedule.passes(world_size, micro_batch)
        # Images of a part whose loss counts as it is, so that the mean over the ranks is the mean over the images.
        self._usual_part = recipe.schedule.global_batch / world_size
        self.network: paddle.nn.Layer = model
        if world_size > 1:
            shares = set(recipe.schedule.device_batches(world_size))
            convert_sync_batch_norm(model, portable=portable_sync_batch_norm, unequal=len(shares) > 1)
            self.network = paddle.DataParallel(model)
        self.optimizer = build_optimizer(model, recipe.optimizer)
        # The range of float16 is small; bfloat16 has that of float32.
        self.loss_scale = LossScale() if recipe.kernels.amp == "float16" else None
        decay = recipe.optimizer.ema_decay
        self.average = MovingAverage(model, decay) if decay else None
        self._unread: Optional[Pending] = None

    def __call__(self, images: paddle.Tensor, labels: paddle.Tensor, iteration: int, stop: bool) -> Pending:
        """Do one step.

        Args:
            images: (N, 3, H, W), float32, normalized; N images of this rank.
            labels: (N, H, W), train ids.
            iteration: the step, 0 for the first.
            stop: whether this rank wants to stop after the step; all hear of it by `Pending.read`.
        """
        # The network draws no random numbers today. Reseeding per step means that dropout could be added without saving
        # the state of a generator.
        paddle.seed(derived_seed("step", self.seed, iteration, self.rank))
        self.optimizer.set_lr(learning_rate(self.recipe.schedule, iteration))
        parts = _parts(images, labels, self._passes)
        sums: List[paddle.Tensor] = []
        names: List[str] = []
        for number, (some_images, some_labels) in enumerate(parts, start=1):
            with self._gradients(last=number == len(parts)):
                loss, terms = segmentation_loss(
                    self._forward(some_images), some_labels, self.recipe.losses, self._read_counts
                )
                divisor = self._usual_part / some_labels.shape[0]
                self._backward(loss, divisor)
            names = sorted(terms)
            values = [_divided(terms[name].astype("float32"), divisor).reshape([1]) for name in names]
            sums = [total + value for total, value in zip(sums, values)] if sums else values
        if self.loss_scale is None or self.loss_scale.unscale(self.network.parameters()):
            self.optimizer.step()
        self.optimizer.clear_grad()
        if self.average is not None:
            self.average.update(iteration)
        # One collective per step: the loss parts, and a stop that all ranks obey at the same step.
        values = paddle.concat([*sums, paddle.full([1], float(stop), "float32")])
        if self.world_size > 1:
            paddle.distributed.all_reduce(values)
        self._unread = Pending(iteration, names, values, self.world_size)
        return self._unread

    def _read_counts(self, counts: paddle.Tensor) -> List[int]:
        """The counts of the mining, and with them what the step before computed.

        A transfer waits for all that the device was asked for. Were the step before read by one of its own after this
        step, that would wait for this step's end, and the device for the host to prepare the next one.
        """
        before, self._unread = self._unread, None
        if before is None:
            return read_counts(counts)
        # float64 holds counts and float32 alike. (A sum of Paddle 2.4 has one dimension, so the counts then have two.)
        together = paddle.concat([counts.astype("float64").reshape([-1]), before.values.astype("float64")]).numpy()
        before.arrived(together[counts.shape[0] :])
        return [int(count) for count in together[: counts.shape[0]]]

    def _forward(self, images: paddle.Tensor) -> SegmentorOutputs:
        amp = self.recipe.kernels.amp
        if amp == "none":
            return self.network(images)
        with paddle.amp.auto_cast(level="O1", dtype=amp):
            outputs = self.network(images)
        return SegmentorOutputs(*(logits.astype("float32") for logits in outputs))

    def _backward(self, loss: paddle.Tensor, divisor: float) -> None:
        loss = _divided(loss, divisor)
        if self.loss_scale is not None:
            loss = loss * self.loss_scale.factor
        loss.backward()

    def _gradients(self, last: bool) -> ContextManager[None]:
        """Ranks exchange gradients once per step, with the last part."""
        if self.world_size == 1 or last:
            return contextlib.nullcontext()
        return self.network.no_sync()


def _divided(value: paddle.Tensor, divisor: float) -> paddle.Tensor:
    """The usual case, one part of the usual size, costs no kernel."""
    return value if divisor == 1.0 else value / divisor


def _parts(images: paddle.Tensor, labels: paddle.Tensor, passes: int) -> List[Tuple[paddle.Tensor, paddle.Tensor]]:
    """A batch cut into parts that differ by one image at most."""
    if passes == 1:
        return [(images, labels)]
    count = images.shape[0]
    borders = [number * count // passes for number in range(passes + 1)]
    parts = [slice(start, stop) for start, stop in zip(borders, borders[1:])]
    return [(images[part], labels[part]) for part in parts]
