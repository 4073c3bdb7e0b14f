"""Evaluation during training: the validation images at full scale, shared out over ranks."""

from __future__ import annotations

import paddle

from stdc.data.dataset import EvalDataset
from stdc.evaluation import metrics
from stdc.evaluation.evaluate import evaluate, shard
from stdc.evaluation.pictures import PredictionPictures
from stdc.machine import ranks
from stdc.machine.heartbeat import Limits
from stdc.prediction.protocols import FULL_SIZE
from stdc.training.recorder import ValidationResult


class Validation:
    """Evaluates a network in its present state; every rank calls it at the same step.

    Args:
        dataset: the validation images.
        pictures: of how many frames rank 0 makes pictures.
        limits: how long ranks wait for each other.
    """

    def __init__(self, dataset: EvalDataset, pictures: int, limits: Limits) -> None:
        self.dataset, self.pictures, self.limits = dataset, pictures, limits

    def __call__(self, model: paddle.nn.Layer, iteration: int) -> ValidationResult:
        """The scores of all images, on every rank; pictures on rank 0 only.

        Args:
            model: the segmentor; it is in training mode again afterwards.
            iteration: optimizer steps done.
        """
        rank, world_size = ranks.rank_and_world()
        indices = shard(len(self.dataset), rank, world_size)
        pictures = PredictionPictures(self.dataset, indices, self.pictures if rank == 0 else 0)
        (counts,) = evaluate(model, self.dataset, [FULL_SIZE], indices, watches=[pictures.watch])
        confusion = paddle.to_tensor(counts.confusion)
        if world_size > 1:
            # Shards take unequal time, and a collective of gloo waits half a minute only.
            ranks.meet(f"evaluated-{iteration}", self.limits.pause_s)
            paddle.distributed.all_reduce(confusion)
        figures = metrics.figures(confusion.numpy())
        return ValidationResult(figures["miou"], figures["class_iou"], pictures.drawn)
