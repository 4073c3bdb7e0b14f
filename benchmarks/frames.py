"""Realistic frames to measure on: generated scenes whose PNG files are as large as those of Cityscapes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import List

import cv2
import numpy as np
from PIL import Image

from stdc.data.entry import Entry
from stdc.data.labels import LABEL_ID_TO_TRAIN_ID
from stdc.data.png import encode_gray
from stdc.data.synthetic.writer import Synthetic, SyntheticFrame, write_frame

#: Size of a Cityscapes image, pixels.
HEIGHT, WIDTH = 1024, 2048
#: A lens is not as sharp as the generator; without this the files have 3.4 MB instead of the 2.1 of real ones.
_BLUR_PIXELS = 0.8


def make_frames(folder: Path, count: int) -> List[Entry]:
    """Write frames of the split "train" in the layout of Cityscapes: images, polygons, label ids and train ids."""
    wanted = Synthetic(seed=0, height=HEIGHT, width=WIDTH, train=count, val=2, test=0)
    for number in range(count):
        frame = SyntheticFrame("train", number, count)
        for path in write_frame(frame, wanted, folder):
            if path.endswith("_leftImg8bit.png"):
                pixels = cv2.cvtColor(cv2.imread(str(folder / path)), cv2.COLOR_BGR2RGB)
                blurred = cv2.GaussianBlur(pixels, (0, 0), _BLUR_PIXELS)
                content = io.BytesIO()
                # Pillow chooses a filter for each row, as the camera's software did.
                Image.fromarray(blurred).save(content, "PNG")
                (folder / path).write_bytes(content.getvalue())
    return find_frames(folder)


def find_frames(folder: Path) -> List[Entry]:
    """The training frames of a folder in the layout of Cityscapes; missing train ids are made beside the label ids."""
    entries = []
    for image in sorted(folder.glob("leftImg8bit/train/*/*_leftImg8bit.png")):
        name = image.name[: -len("_leftImg8bit.png")]
        truth = folder / "gtFine" / "train" / image.parent.name
        label = truth / f"{name}_gtFine_labelTrainIds.png"
        if not label.exists():
            ids = cv2.imread(str(truth / f"{name}_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
            label.write_bytes(encode_gray(LABEL_ID_TO_TRAIN_ID[ids].astype(np.uint8)))
        entries.append(Entry(name, image, label))
    return entries
