"""Evaluation of a network on whole images: one pass over the data for every protocol asked for.

Counts are integers by image, so that any division of the images over processes gives the same figures.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import paddle

from stdc import files
from stdc.data.dataset import EvalDataset
from stdc.data.labels import NUM_CLASSES
from stdc.evaluation import metrics
from stdc.evaluation.predict import Protocol, predict

#: Images decoded ahead of the network.
_IMAGES_AHEAD = 2


@dataclasses.dataclass
class Counts:
    """What one protocol counted; every field by the image's index in the dataset.

    Attributes:
        confusions: (19, 19), int64, row = truth.
        objects: (K, 4), int64, see `metrics.instance_counts`; only of images with instance ids.
        sizes: (height, width) of the image, pixels.
    """

    protocol: Protocol
    confusions: Dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    objects: Dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    sizes: Dict[int, Tuple[int, int]] = dataclasses.field(default_factory=dict)

    @property
    def confusion(self) -> np.ndarray:
        """The sum over images, (19, 19), int64."""
        total = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
        for confusion in self.confusions.values():
            total += confusion
        return total


def shard(count: int, rank: int, world_size: int) -> List[int]:
    """Indices that one of several processes evaluates: each index belongs to exactly one, none is repeated.

    Raises:
        ValueError: no such rank.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}")
    return list(range(rank, count, world_size))


def evaluate(
    model: paddle.nn.Layer,
    dataset: EvalDataset,
    protocols: Sequence[Protocol],
    indices: Optional[Sequence[int]] = None,
    progress: Optional[Callable[[], None]] = None,
) -> List[Counts]:
    """Evaluate images one by one; the ground truth is never resized.

    Args:
        model: gives logits (1, 19, H, W) in evaluation mode; its mode is restored at the end.
        dataset: images with ground truth, and instance ids where it has any.
        protocols: see `stdc.evaluation.predict`; a pass that several need is run once.
        indices: which images, default all; see `shard`.
        progress: called after each image.
    Returns:
        The counts of each protocol, in order.
    Raises:
        InputError: a file is missing, unreadable or of another kind.
    """
    counts = [Counts(protocol) for protocol in protocols]
    chosen = list(range(len(dataset))) if indices is None else list(indices)
    with _evaluation_mode(model):
        for index, image, label, instances in _read_ahead(dataset, chosen):
            for count, prediction in zip(counts, predict(model, image, protocols)):
                count.confusions[index] = metrics.confusion_matrix(label, prediction)
                count.sizes[index] = (label.shape[0], label.shape[1])
                if instances is not None:
                    count.objects[index] = metrics.instance_counts(instances, prediction)
            if progress is not None:
                progress()
    return counts


def merge(parts: Sequence[Sequence[Counts]]) -> List[Counts]:
    """Put together what several processes counted.

    Raises:
        ValueError: two of them counted the same image.
    """
    merged = [Counts(count.protocol) for count in parts[0]]
    for part in parts:
        for total, count in zip(merged, part):
            twice = set(total.confusions) & set(count.confusions)
            if twice:
                raise ValueError(f"image {min(twice)} was evaluated twice")
            total.confusions.update(count.confusions)
            total.objects.update(count.objects)
            total.sizes.update(count.sizes)
    return merged


def save_counts(path: files.PathLike, counts: Sequence[Counts]) -> None:
    """Write the counts of a process for `load_counts`."""
    arrays: Dict[str, Any] = {}
    for number, count in enumerate(counts):
        for index in count.confusions:
            arrays[f"{number}/{index}/confusion"] = count.confusions[index]
            arrays[f"{number}/{index}/size"] = np.array(count.sizes[index], np.int64)
            if index in count.objects:
                arrays[f"{number}/{index}/objects"] = count.objects[index]
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def load_counts(path: files.PathLike, protocols: Sequence[Protocol]) -> List[Counts]:
    """Read what `save_counts` wrote; the path ends in .npz."""
    counts = [Counts(protocol) for protocol in protocols]
    with np.load(str(path), allow_pickle=False) as archive:
        for name in archive.files:
            number, index, field = name.split("/")
            count = counts[int(number)]
            if field == "size":
                count.sizes[int(index)] = tuple(archive[name].tolist())
            else:
                target = count.confusions if field == "confusion" else count.objects
                target[int(index)] = archive[name]
    return counts


def document(counts: Sequence[Counts], frames: Sequence[str], weights_sha256: str, backend: str) -> Dict[str, Any]:
    """The content of `metrics.json`: figures of the first protocol, then of each, then each image under the first.

    Args:
        counts: of every image of the set.
        frames: names, in the order of the dataset.
        weights_sha256: of the weights file.
        backend: what computed, from `stdc.machine.devices.backend`.
    Raises:
        ValueError: an image was not evaluated.
    """
    missing = [frame for index, frame in enumerate(frames) if any(index not in count.confusions for count in counts)]
    if missing:
        raise ValueError(f"{len(missing)} of {len(frames)} images were not evaluated, the first is {missing[0]}")
    described = [_protocol_figures(count, frames, weights_sha256, backend) for count in counts]
    main = counts[0].confusions
    per_image = [
        {
            "frame": frame,
            "miou": metrics.mean_iou(main[index]),
            "pixel_accuracy": metrics.pixel_accuracy(main[index]),
        }
        for index, frame in sorted(enumerate(frames), key=lambda pair: pair[1])
    ]
    return {**described[0], "protocols": described, "per_image": per_image}


def _protocol_figures(count: Counts, frames: Sequence[str], weights_sha256: str, backend: str) -> Dict[str, Any]:
    sizes = sorted(set(count.sizes.values()))
    result: Dict[str, Any] = {
        **metrics.figures(count.confusion),
        "images": len(frames),
        "image_names_sha256": files.sha256_text("".join(f"{frame}\n" for frame in sorted(frames))),
        "protocol": {
            "name": count.protocol.name,
            # None where the images differ in size: such a figure compares with nothing published.
            "size": list(sizes[0]) if len(sizes) == 1 else None,
            "scales": list(count.protocol.scales),
            "flip": count.protocol.flip,
            "precision": "float32",
            "weights_sha256": weights_sha256,
            "backend": backend,
        },
    }
    if len(count.objects) == len(frames):
        objects = np.concatenate([count.objects[index] for index in range(len(frames))])
        result["iiou"] = metrics.instance_iou(count.confusion, objects)
    return result


@contextlib.contextmanager
def _evaluation_mode(model: paddle.nn.Layer) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


_Sample = Tuple[int, np.ndarray, np.ndarray, Optional[np.ndarray]]


def _read_ahead(dataset: EvalDataset, indices: Sequence[int]) -> Iterator[_Sample]:
    """Samples in order, decoded in threads while the network is busy."""

    def read(index: int) -> _Sample:
        image, label, _ = dataset[index]
        if label is None:
            raise ValueError(f"{dataset.entries[index].frame}: no ground truth to evaluate against")
        return index, image, label, dataset.instance_ids(index, label.shape)

    waiting: Deque[Any] = collections.deque()
    executor = concurrent.futures.ThreadPoolExecutor(_IMAGES_AHEAD)
    try:
        for index in indices:
            waiting.append(executor.submit(read, index))
            if len(waiting) > _IMAGES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        executor.shutdown(wait=True)
