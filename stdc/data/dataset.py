"""Samples by key: training crops, and whole images for evaluation.

A sample is a function of its key: neither the process that reads it nor what was read before changes it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np

from stdc.data import transforms
from stdc.data.decode import decode_color, decode_ids
from stdc.data.entry import Entry
from stdc.data.frame_cache import DamagedFrameError, FrameCache
from stdc.data.labels import IGNORE, NUM_CLASSES
from stdc.data.verified import read_verified
from stdc.errors import InputError, shown
from stdc.recipe import Augmentation
from stdc.seeds import sample_generator
from stdc.units import size_text


class TrainDataset:
    """Augmented training crops.

    Args:
        entries: frames, in the order of the list file.
        augmentation: how crops are made.
        seed: of the run.
        cache: decoded frames; None: every sample decodes its files.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        augmentation: Augmentation,
        seed: int,
        cache: Optional[FrameCache] = None,
    ) -> None:
        self.entries = list(entries)
        self.augmentation = augmentation
        self.seed = seed
        self.cache = cache

    def __len__(self) -> int:
        return len(self.entries)

    def frame(self, key: int) -> str:
        """Name of the frame of a sample."""
        return str(self.entries[key % len(self.entries)].frame)

    def __getitem__(self, key: int) -> Tuple[np.ndarray, np.ndarray]:
        """The crop of one frame in one epoch.

        Args:
            key: ``epoch * len(self) + index``.
        Returns:
            The image (3, crop_height, crop_width) and train ids (crop_height, crop_width), uint8. Where the
            augmentation ends in 8 bits the image is uint8, a quarter of the bytes, to be normalized by
            `transforms.normalization_table`; else it is float32 and normalized.
        Raises:
            InputError: a file is missing, unreadable or of another kind; names it.
        """
        epoch, index = divmod(key, len(self.entries))
        entry = self.entries[index]
        if self.cache is not None:
            # A cached frame that cannot be read is made anew, whatever its reason.
            with contextlib.suppress(DamagedFrameError, OSError):
                planes = self.cache.read(index, entry)
                if planes is not None:
                    return self._crop(*planes, epoch, index)
        assert entry.label is not None
        image = read_image(entry.image, entry.image_sha256)
        label = read_label(entry.label, image.shape[:2], entry.label_sha256)
        if self.cache is not None:
            self.cache.write(index, entry, image, label)
        return self._crop(image, label, epoch, index)

    def _crop(self, image: Any, label: Any, epoch: int, index: int) -> Tuple[np.ndarray, np.ndarray]:
        height, width = label.shape
        draws = transforms.draw(self.augmentation, height, width, sample_generator(self.seed, epoch, index))
        crop, truth = transforms.apply(image, label, draws, self.augmentation)
        check_train_ids(truth, self.entries[index].label)
        if crop.dtype == np.uint8:
            return transforms.planes(crop), truth
        return transforms.normalize(crop, self.augmentation.mean, self.augmentation.std), truth


class EvalDataset:
    """Whole images with their ground truth.

    Args:
        entries: frames, in the order of the list file; `label` may be None.
        mean, std: normalization of red, green and blue on the scale 0 to 1.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.entries = list(entries)
        self.mean = tuple(mean)
        self.std = tuple(std)
        # The iIoU of a part of the frames compares with no published figure.
        self._with_instances = all(entry.instances is not None for entry in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Tuple[np.ndarray, Optional[np.ndarray], int]:
        """One frame.

        Returns:
            Normalized image (3, H, W), float32; train ids (H, W), uint8, or None; `index`.
        Raises:
            InputError: a file is missing, unreadable or of another kind; names it.
        """
        entry = self.entries[index]
        image = read_image(entry.image, entry.image_sha256)
        label = None
        if entry.label is not None:
            label = read_label(entry.label, image.shape[:2], entry.label_sha256)
            check_train_ids(label, entry.label)
        return transforms.normalize(image, self.mean, self.std), label, index

    def instance_ids(self, index: int, size: Optional[Sequence[int]] = None) -> Optional[np.ndarray]:
        """Instance ids of one frame, (H, W), uint16, or None where any frame has none; `size` as in `read_label`."""
        entry = self.entries[index]
        if entry.instances is None or not self._with_instances:
            return None
        return read_instances(entry.instances, size, entry.instances_sha256)


def read_image(path: Path, sha256: Optional[str] = None) -> np.ndarray:
    """Read an image file as (H, W, 3), uint8, red-green-blue.

    Args:
        sha256: hex digest that the file must have, see `read_verified`.
    Raises:
        InputError: the file is missing, truncated, no image, or not the one that was checked.
    """
    return _decode(path, decode_color, sha256)


def read_label(path: Path, size: Optional[Sequence[int]] = None, sha256: Optional[str] = None) -> np.ndarray:
    """Read a label raster as (H, W), uint8.

    Args:
        size: (height, width) of its image, which the raster must have; None: any.
        sha256: hex digest that the file must have, see `read_verified`.
    Raises:
        InputError: the file is unreadable, has other channels or bits, another size, or is not the one that was made.
    """
    return _decode_ids(path, np.uint8, size, sha256)


def read_instances(path: Path, size: Optional[Sequence[int]] = None, sha256: Optional[str] = None) -> np.ndarray:
    """Read an instance raster as (H, W), uint16; see `read_label`."""
    return _decode_ids(path, np.uint16, size, sha256)


def check_train_ids(label: np.ndarray, path: Optional[Path]) -> None:
    """Refuse values that are neither a class nor void: the loss would index classes that do not exist.

    Raises:
        InputError: names the file and a value.
    """
    wrong = (label >= NUM_CLASSES) & (label != IGNORE)
    if wrong.any():
        raise InputError(
            f"{shown(path)}: holds the value {label[wrong][0]}; expected train ids 0 to {NUM_CLASSES - 1} or {IGNORE}. "
            "Is it a label id raster? Delete the folder of converted labels and run again"
        )


def _decode_ids(path: Path, dtype: Any, size: Optional[Sequence[int]], sha256: Optional[str]) -> np.ndarray:
    ids = _decode(path, decode_ids, sha256)
    bits = np.dtype(dtype).itemsize * 8
    if ids.ndim != 2 or ids.dtype != dtype:
        channels = 1 if ids.ndim == 2 else ids.shape[2]
        raise InputError(
            f"{shown(path)}: {channels} channels of {ids.dtype.itemsize * 8} bits; expected one channel of {bits} bits,"
            " each pixel an id"
        )
    if size is not None and ids.shape != tuple(size):
        raise InputError(
            f"{shown(path)}: {size_text(ids.shape)} pixels, but its image has {size_text(size)}; "
            "the two must be of the same frame"
        )
    return ids


def _decode(path: Path, decode: Callable[[np.ndarray], Optional[np.ndarray]], sha256: Optional[str]) -> np.ndarray:
    data = read_verified(path, sha256)
    # OpenCV decodes a truncated file without an error and leaves the rest of the picture gray. The end mark shows a
    # truncation at no cost, in files that come without a digest.
    whole = data[:8].tobytes() != _PNG_SIGNATURE or _PNG_END in data[-64:].tobytes()
    image = decode(data) if whole and data.size else None
    if image is None:
        raise InputError(
            f"{shown(path)}: not a readable image ({data.size} bytes); is it truncated? Fetch or unpack it again"
        )
    return image


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
