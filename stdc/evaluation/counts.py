"""What an evaluation counts: integers by image, so that any division of the images over processes gives the same sums.

Ranks hand theirs over in a file.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from stdc import files
from stdc.data.labels import NUM_CLASSES
from stdc.prediction.protocols import Protocol


@dataclasses.dataclass
class Counts:
    """What one protocol counted; every field by the image's index in the dataset.

    Attributes:
        confusions: (19, 19), int64, row = truth; see `metrics` for predictions from elsewhere.
        objects: (K, 4), int64, see `metrics.instance_counts`; only of images with instance ids.
        sizes: (height, width) of the image, pixels.
        compared: pixels of the image, and how many of them another backend predicts otherwise; only of images that
            were compared.
    """

    protocol: Protocol
    confusions: Dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    objects: Dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    sizes: Dict[int, Tuple[int, int]] = dataclasses.field(default_factory=dict)
    compared: Dict[int, Tuple[int, int]] = dataclasses.field(default_factory=dict)

    @property
    def confusion(self) -> np.ndarray:
        """The sum over images, (19, 19), int64; (19, 34) where labels that are not trained were predicted too."""
        columns = max((confusion.shape[1] for confusion in self.confusions.values()), default=NUM_CLASSES)
        return sum(self.confusions.values(), np.zeros((NUM_CLASSES, columns), np.int64))


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
            total.compared.update(count.compared)
    return merged


def save_counts(path: files.PathLike, counts: Sequence[Counts]) -> None:
    """Write the counts of a process for `load_counts`."""
    arrays: Dict[str, Any] = {}
    for number, count in enumerate(counts):
        for field in _ARRAY_FIELDS + _PAIR_FIELDS:
            for index, value in getattr(count, field).items():
                arrays[f"{number}/{index}/{field}"] = np.asarray(value, np.int64)
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def load_counts(path: files.PathLike, protocols: Sequence[Protocol]) -> List[Counts]:
    """Read what `save_counts` wrote; the path ends in .npz."""
    counts = [Counts(protocol) for protocol in protocols]
    with np.load(str(path), allow_pickle=False) as archive:
        for name in archive.files:
            number, index, field = name.split("/")
            value = tuple(archive[name].tolist()) if field in _PAIR_FIELDS else archive[name]
            getattr(counts[int(number)], field)[int(index)] = value
    return counts


#: Fields of `Counts` by the kind of their values.
_ARRAY_FIELDS = ("confusions", "objects")
_PAIR_FIELDS = ("sizes", "compared")
