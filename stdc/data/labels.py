"""The label table of Cityscapes, taken from cityscapesscripts so that nothing is typed twice.

Label ids (0..33) stand in `*_labelIds.png`; train ids (0..18, and 255 for ignored pixels) are what a network learns.
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import numpy as np
from cityscapesscripts.helpers.labels import Label, labels

#: Train id of pixels that neither training nor evaluation counts.
IGNORE = 255

LABELS: Tuple[Label, ...] = tuple(labels)
LABEL_BY_NAME: Dict[str, Label] = {label.name: label for label in LABELS}

#: The trained classes in the order of their train ids.
TRAIN_LABELS: Tuple[Label, ...] = tuple(
    sorted((label for label in LABELS if 0 <= label.trainId < IGNORE), key=lambda label: label.trainId)
)
TRAIN_NAMES: Tuple[str, ...] = tuple(label.name for label in TRAIN_LABELS)
NUM_CLASSES = len(TRAIN_LABELS)

#: (19, 3) uint8, RGB.
TRAIN_COLORS: np.ndarray = np.array([label.color for label in TRAIN_LABELS], dtype=np.uint8)

#: Categories that contain trained classes, in the order of their category ids.
CATEGORY_NAMES: Tuple[str, ...] = tuple(
    {label.categoryId: label.category for label in sorted(TRAIN_LABELS, key=lambda label: label.categoryId)}.values()
)
#: (19,) int64: position in CATEGORY_NAMES of each trained class.
TRAIN_ID_TO_CATEGORY: np.ndarray = np.array([CATEGORY_NAMES.index(label.category) for label in TRAIN_LABELS])

#: Trained classes whose single objects are told apart; iIoU is defined for these.
INSTANCE_TRAIN_NAMES: Tuple[str, ...] = tuple(label.name for label in TRAIN_LABELS if label.hasInstances)

#: Label ids that a raster may hold. The id of `license plate` is -1: it is never drawn.
LABEL_IDS: Tuple[int, ...] = tuple(sorted(label.id for label in LABELS if label.id >= 0))
#: Label ids of objects that are told apart in `*_instanceIds.png`.
INSTANCE_LABEL_IDS: Tuple[int, ...] = tuple(
    sorted(label.id for label in LABELS if label.id >= 0 and label.hasInstances)
)


def _table_to_train_id() -> np.ndarray:
    table = np.full(256, IGNORE, dtype=np.uint8)
    for label in TRAIN_LABELS:
        table[label.id] = label.trainId
    return table


def _table_to_label_id() -> np.ndarray:
    table = np.full(256, LABEL_BY_NAME["unlabeled"].id, dtype=np.uint8)
    for label in TRAIN_LABELS:
        table[label.trainId] = label.id
    return table


#: (256,) uint8: `LABEL_ID_TO_TRAIN_ID[label_ids]`; every id without a trained class gives 255.
LABEL_ID_TO_TRAIN_ID: np.ndarray = _table_to_train_id()
#: (256,) uint8: `TRAIN_ID_TO_LABEL_ID[train_ids]`; 255 gives the id of `unlabeled`.
TRAIN_ID_TO_LABEL_ID: np.ndarray = _table_to_label_id()

#: (256, 3) uint8, RGB: `TRAIN_ID_TO_COLOR[train_ids]` is a picture in the official colors; 255 is black.
TRAIN_ID_TO_COLOR: np.ndarray = np.zeros((256, 3), dtype=np.uint8)
TRAIN_ID_TO_COLOR[:NUM_CLASSES] = TRAIN_COLORS

for _table in (TRAIN_COLORS, TRAIN_ID_TO_CATEGORY, LABEL_ID_TO_TRAIN_ID, TRAIN_ID_TO_LABEL_ID, TRAIN_ID_TO_COLOR):
    _table.setflags(write=False)


def find_label(name: str) -> Optional[Label]:
    """The label that a polygon named `name` is drawn with, or None if the name is unknown.

    A name that is not in the table but ends with `group` (`cargroup`) means the label before that ending
    (cityscapesscripts, json2labelImg.py); `polegroup` has an entry of its own.
    """
    found = LABEL_BY_NAME.get(name)
    if found is None and name.endswith("group"):
        found = LABEL_BY_NAME.get(name[: -len("group")])
    return found
