"""The training crops of this code, of the footage that run_loop.py prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

import numpy as np

from stdc.data.dataset import TrainDataset
from stdc.data.entries import read_entries, read_prepared
from stdc.data.transforms import normalization_table
from stdc.stages import read_train_stage


class OurCrops:
    """Crops by their keys, ``epoch * len(self) + index``, as a training of one seed sees them.

    Args:
        shared: what run_loop.py prepared: configuration, manifest, rasters, lists, and a link to the footage.
        seed: of the training.
    """

    def __init__(self, shared: Path, seed: int) -> None:
        footage = (shared / "peer_dataset" / "leftImg8bit").resolve().parent
        stage = read_train_stage(shared / "train.json")
        self.recipe = stage.recipe
        prepared = read_prepared(footage, shared / "labels", shared / "manifest.json", shared / "labels.json")
        entries = read_entries(shared / "lists" / "train.txt", "train", prepared, stage.separator)
        self._crops = TrainDataset(entries, self.recipe.augmentation, seed=seed)
        self._table = normalization_table(self.recipe.augmentation.mean, self.recipe.augmentation.std)

    def __getitem__(self, key: int) -> Tuple[np.ndarray, np.ndarray]:
        """The crop, (3, H, W), float32, normalized, and its train ids, (H, W), uint8."""
        image, label = self._crops[key]
        return np.stack([self._table[channel][image[channel]] for channel in range(3)]), label

    def __len__(self) -> int:
        return len(self._crops)
