"""Small pictures of what a network sees: image, truth and prediction side by side."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import paddle

from stdc.data.dataset import read_image, read_label
from stdc.pictures import color_map, side_by_side

#: Width of one of the three parts, pixels: enough to recognize a person, small enough to keep hundreds.
PART_WIDTH = 384


def prediction_pictures(model: paddle.nn.Layer, dataset: Any, count: int) -> Dict[str, np.ndarray]:
    """Pictures of `count` frames spread evenly over a dataset.

    Args:
        model: in evaluation mode.
        dataset: a `stdc.data.dataset.EvalDataset`.
    Returns:
        {frame: (H, 3 * PART_WIDTH, 3), uint8, RGB}.
    """
    pictures = {}
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    for index in sorted(set(chosen.tolist())):
        entry = dataset.entries[index]
        with paddle.no_grad():
            logits = model(paddle.to_tensor(dataset[index][0][None]))
        prediction = logits[0].argmax(axis=0).numpy().astype(np.uint8)
        parts = [
            read_image(entry.image, entry.image_sha256),
            color_map(read_label(entry.label, None, entry.label_sha256)),
            color_map(prediction),
        ]
        pictures[entry.frame] = side_by_side(parts, PART_WIDTH)
    return pictures
