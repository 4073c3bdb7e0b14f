"""Evaluation of a network on whole images: one pass over the data for every protocol asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import paddle

from stdc.data.dataset import EvalDataset
from stdc.data.labels import IGNORE, NUM_CLASSES
from stdc.evaluation import metrics
from stdc.evaluation.counts import Counts
from stdc.prediction.predict import PaddlePredictor
from stdc.prediction.predictor import Predictor
from stdc.prediction.protocols import Protocol
from stdc.prediction.read_ahead import read_ahead

#: Images decoded ahead of the network.
_IMAGES_AHEAD = 2


def shard(count: int, rank: int, world_size: int) -> List[int]:
    """Indices that one of several processes evaluates: each index belongs to exactly one, none is repeated.

    Raises:
        ValueError: no such rank.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}")
    return list(range(rank, count, world_size))


class Watch(NamedTuple):
    """Wants to see single images as they are evaluated, for pictures or a comparison.

    Attributes:
        indices: of these images.
        see: called with the index, the normalized image (3, H, W) and the train ids (H, W), uint8, that the first
            protocol predicts.
    """

    indices: FrozenSet[int]
    see: Callable[[int, np.ndarray, np.ndarray], None]


def evaluate(
    network: Union[paddle.nn.Layer, Predictor],
    dataset: EvalDataset,
    protocols: Sequence[Protocol],
    indices: Optional[Sequence[int]] = None,
    progress: Optional[Callable[[], None]] = None,
    watches: Sequence[Watch] = (),
) -> List[Counts]:
    """Evaluate images one by one; the ground truth is never resized.

    Args:
        network: a predictor, or a layer that gives logits (1, 19, H, W) in evaluation mode; the layer's mode is
            restored at the end.
        dataset: images with ground truth, and instance ids where it has any.
        protocols: a pass that several need is run once.
        indices: which images, default all; see `shard`.
        progress: called after each image.
        watches: see `Watch`.
    Returns:
        The counts of each protocol, in order.
    Raises:
        InputError: a file is missing, unreadable or of another kind.
    """
    counts = [Counts(protocol) for protocol in protocols]
    chosen = list(range(len(dataset))) if indices is None else list(indices)
    readers = [functools.partial(_read, dataset, index) for index in chosen]
    predictor = network if isinstance(network, Predictor) else PaddlePredictor(network)
    with _evaluation_mode(predictor):
        for sample in read_ahead(readers, _IMAGES_AHEAD):
            index, label = sample.index, sample.label
            predictions = predictor.predict(sample.image, protocols)
            for count, train_ids in zip(counts, predictions):
                count.confusions[index] = _confusion(label, train_ids, predictor)
                count.sizes[index] = (label.shape[0], label.shape[1])
                if sample.instances is not None:
                    count.objects[index] = metrics.instance_counts(sample.instances, predictor.to_host(train_ids))
            for watch in watches:
                if index in watch.indices:
                    watch.see(index, sample.image, predictor.to_host(predictions[0]))
            if progress is not None:
                progress()
    return counts


def spread(count: int, wanted: int) -> List[int]:
    """`wanted` of `count` indices, or all where there are fewer, spread evenly and ascending."""
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))


class Comparison:
    """Counts the pixels that another backend predicts otherwise.

    Attributes:
        compared: pixels and differing ones by the image's index.
    """

    def __init__(self, other: Predictor, protocol: Protocol) -> None:
        self.compared: Dict[int, Tuple[int, int]] = {}
        self._other = other
        self._protocol = protocol

    def see(self, index: int, image: np.ndarray, train_ids: np.ndarray) -> None:
        """What `Watch.see` is for: predict the image again."""
        (others,) = self._other.predict(image, [self._protocol])
        self.compared[index] = train_ids.size, int((self._other.to_host(others) != train_ids).sum())


def _confusion(label: np.ndarray, train_ids: Any, predictor: Predictor) -> np.ndarray:
    if isinstance(train_ids, paddle.Tensor) and not train_ids.place.is_cpu_place():
        return confusion_on_device(label, train_ids)
    return metrics.confusion_matrix(label, predictor.to_host(train_ids))


def confusion_on_device(label: np.ndarray, train_ids: paddle.Tensor) -> np.ndarray:
    """`metrics.confusion_matrix` where the prediction is: 362 numbers cross the bus instead of every pixel.

    Args:
        label: train ids (H, W), uint8; checked, so nothing but classes and void.
        train_ids: (H, W), int32.
    """
    truth = paddle.to_tensor(label).cast("int32")
    void = paddle.full_like(truth, NUM_CLASSES * NUM_CLASSES)
    cells = paddle.where(truth == IGNORE, void, truth * NUM_CLASSES + train_ids)
    counts = paddle.bincount(cells.reshape([-1]), minlength=NUM_CLASSES * NUM_CLASSES + 1)
    return counts.numpy()[:-1].astype(np.int64).reshape(NUM_CLASSES, NUM_CLASSES)


@contextlib.contextmanager
def _evaluation_mode(predictor: Predictor) -> Iterator[None]:
    model = predictor.model if isinstance(predictor, PaddlePredictor) else None
    training = model is not None and model.training
    if model is not None:
        model.eval()
    try:
        yield
    finally:
        if model is not None and training:
            model.train()


@dataclasses.dataclass(frozen=True)
class _Sample:
    index: int
    image: np.ndarray
    label: np.ndarray
    instances: Optional[np.ndarray]


def _read(dataset: EvalDataset, index: int) -> _Sample:
    image, label, _ = dataset[index]
    if label is None:
        raise ValueError(f"{dataset.entries[index].frame}: no ground truth to evaluate against")
    return _Sample(index, image, label, dataset.instance_ids(index, label.shape))
