"""Small pictures of what a network sees during training: image, truth and prediction side by side."""

from __future__ import annotations

from typing import Dict, Sequence

import numpy as np

from stdc.data.dataset import EvalDataset, read_image, read_label
from stdc.evaluation.evaluate import Watch, spread
from stdc.pictures import color_map, side_by_side

#: Width of one of the three parts, pixels: enough to recognize a person, small enough to keep hundreds.
PART_WIDTH = 384


class PredictionPictures:
    """Pictures of some frames, drawn from the predictions that an evaluation makes anyway.

    Args:
        dataset: what is evaluated.
        indices: which images this process evaluates.
        count: how many of them to draw, spread evenly.
    Attributes:
        watch: for `evaluate`.
        drawn: the pictures by frame, (H, 3 * PART_WIDTH, 3), uint8, RGB.
    """

    def __init__(self, dataset: EvalDataset, indices: Sequence[int], count: int) -> None:
        self.watch = Watch(frozenset(indices[place] for place in spread(len(indices), count)), self._draw)
        self.drawn: Dict[str, np.ndarray] = {}
        self._dataset = dataset

    def _draw(self, index: int, _: np.ndarray, train_ids: np.ndarray) -> None:
        entry = self._dataset.entries[index]
        assert entry.label is not None
        image = read_image(entry.image, entry.image_sha256)
        label = read_label(entry.label, None, entry.label_sha256)
        parts = [image, color_map(label), color_map(train_ids)]
        self.drawn[entry.frame] = side_by_side(parts, PART_WIDTH)
