"""Predictions as files: PNGs of label ids for programs, and color pictures for people."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stdc import files, pictures
from stdc.data.labels import TRAIN_ID_TO_LABEL_ID
from stdc.data.png import encode_gray

#: Suffix of a prediction's file name.
PREDICTION_SUFFIX = "_pred_labelIds.png"


class Wanted(NamedTuple):
    """Which pictures are written beside the label ids."""

    color: bool = False
    overlay: bool = False
    side_by_side: bool = False


def prediction_png(train_ids: np.ndarray) -> bytes:
    """The PNG of a prediction: train ids (H, W), uint8, as label ids."""
    return encode_gray(TRAIN_ID_TO_LABEL_ID[train_ids])


def write_prediction(folder: Path, name: str, image: np.ndarray, train_ids: np.ndarray, wanted: Wanted) -> None:
    """Write `<name>_pred_labelIds.png` and the pictures.

    The official script takes every PNG whose name begins with a frame's for a prediction of it. So the pictures are
    JPEG, and the color map, which JPEG would blur, has another beginning.

    Args:
        folder: gets the label ids; the pictures go to `colors/`, `overlays/` and `side_by_side/` in it.
        name: of the picture, with "/" for folders.
        image: (H, W, 3), uint8, RGB.
        train_ids: (H, W), uint8.
    """
    files.write_bytes(folder / f"{name}{PREDICTION_SUFFIX}", prediction_png(train_ids))
    if wanted.color:
        place = folder / "colors" / name
        files.write_bytes(
            place.with_name(f"color_{place.name}.png"), pictures.encode_png(pictures.color_map(train_ids))
        )
    if wanted.overlay:
        data = pictures.encode_jpeg(pictures.overlay(image, train_ids))
        files.write_bytes(folder / "overlays" / f"{name}_overlay.jpg", data)
    if wanted.side_by_side:
        data = pictures.encode_jpeg(pictures.side_by_side([image, pictures.color_map(train_ids)]))
        files.write_bytes(folder / "side_by_side" / f"{name}_side_by_side.jpg", data)
