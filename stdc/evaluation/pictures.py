"""Small pictures of what a network sees: image, truth and prediction side by side."""

from __future__ import annotations

from typing import Any, Dict

import cv2
import numpy as np
import paddle

from stdc.data.dataset import read_image, read_label
from stdc.data.labels import TRAIN_ID_TO_COLOR

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
        image = read_image(entry.image)
        parts = [image, TRAIN_ID_TO_COLOR[read_label(entry.label)], TRAIN_ID_TO_COLOR[prediction]]
        height = max(1, round(image.shape[0] * PART_WIDTH / image.shape[1]))
        pictures[entry.frame] = np.hstack(
            [cv2.resize(part, (PART_WIDTH, height), interpolation=cv2.INTER_NEAREST) for part in parts]
        )
    return pictures
