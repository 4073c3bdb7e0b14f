"""Integer confusion counts and the official Cityscapes figures made from them.

The rule is that of cityscapesscripts, ``evaluation/evalPixelLevelSemanticLabeling.py``: counts are integers over the
whole set; pixels whose ground truth is ignored count nowhere; a class that occurs neither in truth nor in prediction
has no score and is left out of the mean.

Our networks predict trained classes only, so counts are square, (19, 19). Predictions from elsewhere may hold any
label: their counts have a further column for each label that is not trained, (19, 34), and such a pixel is a miss of
its class.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from stdc.data.labels import (
    CATEGORY_NAMES,
    IGNORE,
    INSTANCE_TRAIN_NAMES,
    LABEL_ID_TO_TRAIN_ID,
    LABELS,
    NUM_CLASSES,
    TRAIN_ID_TO_CATEGORY,
    TRAIN_NAMES,
)

#: Mean size of one object in pixels, over the training set; the weights of iIoU (`args.avgClassSize` of the official
#: script).
AVERAGE_INSTANCE_PIXELS: Mapping[str, float] = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}

#: Categories of which every class has instances; iIoU is defined for these.
INSTANCE_CATEGORY_NAMES = tuple(
    category
    for position, category in enumerate(CATEGORY_NAMES)
    if all(
        name in INSTANCE_TRAIN_NAMES for name, own in zip(TRAIN_NAMES, TRAIN_ID_TO_CATEGORY.tolist()) if own == position
    )
)

#: Labels that no network here predicts, in the order of their columns, which follow those of the trained classes.
UNTRAINED_LABELS = tuple(
    sorted(
        (label for label in LABELS if label.id >= 0 and LABEL_ID_TO_TRAIN_ID[label.id] == IGNORE),
        key=lambda label: label.id,
    )
)


def _columns_of_label_ids() -> np.ndarray:
    table = LABEL_ID_TO_TRAIN_ID.copy()
    for number, label in enumerate(UNTRAINED_LABELS):
        table[label.id] = NUM_CLASSES + number
    return table


#: (256,) uint8: the column of each label id; 255 for numbers that are no label.
LABEL_ID_TO_COLUMN: np.ndarray = _columns_of_label_ids()

#: (34,) int64: position in CATEGORY_NAMES of each column. Of the labels that are not trained, only caravans and
#: trailers belong to a category that is scored by objects, and the official script counts them as hits of it.
_COLUMN_TO_CATEGORY: np.ndarray = np.concatenate(
    [
        TRAIN_ID_TO_CATEGORY,
        [
            CATEGORY_NAMES.index(label.category) if label.category in INSTANCE_CATEGORY_NAMES else -1
            for label in UNTRAINED_LABELS
        ],
    ]
)

#: `*_instanceIds.png` holds label id * 1000 + number for objects, and the plain label id elsewhere.
_IDS_PER_CLASS = 1000

#: Columns of the counts made by `instance_counts`.
INSTANCE_COLUMNS = ("train_id", "pixels", "class_hits", "category_hits")


def confusion_matrix(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int = NUM_CLASSES,
    ignore: int = IGNORE,
    columns: Optional[int] = None,
) -> np.ndarray:
    """Count pixels by true and predicted class.

    Args:
        truth: train ids, any shape, uint8; `ignore` marks pixels that do not count.
        prediction: train ids, or columns by LABEL_ID_TO_COLUMN; the same shape, uint8.
        columns: how many values a prediction may have; None for as many as there are classes.
    Returns:
        (num_classes, columns), int64; row = truth, column = prediction.
    Raises:
        ValueError: shapes or types differ, or a value is not a class.
    """
    if truth.shape != prediction.shape or truth.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise ValueError(
            f"truth {truth.dtype}{truth.shape} and prediction {prediction.dtype}{prediction.shape}; "
            "two uint8 arrays of one shape are expected"
        )
    columns = num_classes if columns is None else columns
    # Both values in one 16-bit number: one pass over the pixels, and nothing is out of range.
    pairs = (truth.astype(np.uint16) << 8) | prediction
    counts = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256).astype(np.int64)
    counted = np.arange(256) != ignore
    if counts[num_classes:][counted[num_classes:]].any():
        raise ValueError(f"truth holds a value that is neither a class (0 to {num_classes - 1}) nor {ignore}")
    confusion = counts[:num_classes]
    if confusion[:, columns:].any():
        raise ValueError(f"prediction holds a value that is not a class (0 to {columns - 1})")
    return confusion[:, :columns].copy()


def class_iou(confusion: np.ndarray) -> List[Optional[float]]:
    """Intersection over union of each class, a fraction; None for a class that occurs nowhere.

    Args:
        confusion: (C, C) or wider, integers; row = truth, column = prediction.
    Raises:
        ValueError: confusion is no such table of integers.
    """
    _check(confusion)
    return [_ratio(int(hit), int(union)) for hit, union in zip(*_hits_and_unions(confusion))]


def mean_iou(confusion: np.ndarray) -> Optional[float]:
    """Mean of `class_iou` over the classes that occur, a fraction; None where nothing was counted."""
    return mean_score(class_iou(confusion))


def category_confusion(confusion: np.ndarray) -> np.ndarray:
    """Counts by true and predicted category, (7, 7): a mistake within a category is a hit.

    Args:
        confusion: (19, 19), integers; or (19, 34), and the columns of labels that are not trained stay as they are.
    """
    _check(confusion)
    if len(confusion) != NUM_CLASSES:
        raise ValueError(f"categories are defined for {NUM_CLASSES} classes, found {len(confusion)}")
    member = np.arange(len(CATEGORY_NAMES))[:, None] == TRAIN_ID_TO_CATEGORY[None, :]  # (7, 19)
    member = member.astype(np.int64)
    trained, others = confusion[:, :NUM_CLASSES], confusion[:, NUM_CLASSES:]
    return np.hstack([member @ trained @ member.T, member @ others])


def category_iou(confusion: np.ndarray) -> Dict[str, Optional[float]]:
    """Intersection over union of each category by name; None for one that occurs nowhere."""
    return dict(zip(CATEGORY_NAMES, class_iou(category_confusion(confusion))))


def pixel_accuracy(confusion: np.ndarray) -> Optional[float]:
    """Share of the counted pixels that are right, a fraction; None where nothing was counted."""
    _check(confusion)
    return _ratio(int(np.trace(confusion)), int(confusion.sum()))


def instance_counts(instances: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """How much of each object was found.

    Args:
        instances: (H, W), integers, as in `*_instanceIds.png`.
        prediction: (H, W), train ids, or columns by LABEL_ID_TO_COLUMN.
    Returns:
        (K, 4), int64, one row per object of a trained class; columns as in INSTANCE_COLUMNS.
    Raises:
        ValueError: shapes differ, or an object's class is unknown.
    """
    if instances.shape != prediction.shape:
        raise ValueError(f"instances {instances.shape} and prediction {prediction.shape} differ in shape")
    # As in the official script: greater, not greater or equal.
    objects = instances > _IDS_PER_CLASS
    ids, predicted = instances[objects].astype(np.int64), prediction[objects].astype(np.int64)
    if ids.size and ids.max() >= 256 * _IDS_PER_CLASS:
        raise ValueError(f"instance id {ids.max()} belongs to no class")
    train_ids = LABEL_ID_TO_TRAIN_ID[ids // _IDS_PER_CLASS].astype(np.int64)
    trained = train_ids != IGNORE
    ids, predicted, train_ids = ids[trained], predicted[trained], train_ids[trained]
    class_hit = predicted == train_ids
    category_hit = _COLUMN_TO_CATEGORY[predicted] == TRAIN_ID_TO_CATEGORY[train_ids]
    unique, first, place = np.unique(ids, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    columns = (
        train_ids[first],
        np.bincount(place, minlength=len(unique)),
        np.bincount(place[class_hit], minlength=len(unique)),
        np.bincount(place[category_hit], minlength=len(unique)),
    )
    return np.stack(columns, axis=1).astype(np.int64).reshape(-1, len(columns))


def instance_iou(confusion: np.ndarray, counts: np.ndarray) -> Dict[str, Any]:
    """iIoU: as IoU, with true positives and false negatives weighted by (mean object size / size of the object).

    False positives belong to no object, so they are counted as they are.

    Args:
        confusion: (19, 19) or (19, 34) counts of the whole set.
        counts: (K, 4) objects of the whole set, from `instance_counts`.
    Returns:
        ``class_iiou`` and ``category_iiou`` by name (None where nothing occurs), and ``miiou``, the mean over classes.
    """
    classes = {name: TRAIN_NAMES.index(name) for name in INSTANCE_TRAIN_NAMES}
    categories = {name: CATEGORY_NAMES.index(name) for name in INSTANCE_CATEGORY_NAMES}
    category_of_row = TRAIN_ID_TO_CATEGORY[counts[:, 0]]
    class_iiou = {
        name: _weighted_iou(counts[counts[:, 0] == train_id], 2, _false_positives(confusion, train_id))
        for name, train_id in classes.items()
    }
    by_category = category_confusion(confusion)
    others = _COLUMN_TO_CATEGORY[NUM_CLASSES : confusion.shape[1]]
    category_iiou = {}
    for name, position in categories.items():
        columns = [position, *(len(by_category) + np.flatnonzero(others == position))]
        false_positives = sum(_false_positives(by_category, position, int(column)) for column in columns)
        category_iiou[name] = _weighted_iou(counts[category_of_row == position], 3, false_positives)
    return {
        "class_iiou": class_iiou,
        "category_iiou": category_iiou,
        "miiou": mean_score(list(class_iiou.values())),
    }


def mean_score(scores: Sequence[Optional[float]]) -> Optional[float]:
    """Mean of the scores that exist; None where none does."""
    present = [score for score in scores if score is not None]
    return math.fsum(present) / len(present) if present else None


def overlaps(confusion: np.ndarray) -> Dict[str, List[int]]:
    """What the IoU of each class is the ratio of, by train id: pixels in the `intersection` and in the `union`."""
    _check(confusion)
    hits, unions = _hits_and_unions(confusion)
    return {"intersection": hits.tolist(), "union": unions.tolist()}


def figures(confusion: np.ndarray) -> Dict[str, Any]:
    """The figures of one evaluation by name, as `metrics.json` holds them; scores are fractions, not percentages.

    Args:
        confusion: (19, 19); or (19, 34), then `untrained_predictions` holds the columns of labels that are not trained.
    """
    others = confusion[:, NUM_CLASSES:]
    untrained = {label.name: column.tolist() for label, column in zip(UNTRAINED_LABELS, others.T) if column.any()}
    return {
        "miou": mean_iou(confusion),
        "class_iou": dict(zip(TRAIN_NAMES, class_iou(confusion))),
        "category_iou": category_iou(confusion),
        "pixel_accuracy": pixel_accuracy(confusion),
        "confusion": confusion[:, :NUM_CLASSES].tolist(),
        **({"untrained_predictions": untrained} if untrained else {}),
    }


def _weighted_iou(rows: np.ndarray, hit_column: int, false_positives: int) -> Optional[float]:
    # Summed exactly, so that the order of the frames cannot matter.
    hits, sizes = [], []
    for row in rows.tolist():
        weight = AVERAGE_INSTANCE_PIXELS[TRAIN_NAMES[row[0]]] / row[1]
        hits.append(row[hit_column] * weight)
        sizes.append(row[1] * weight)
    denominator = math.fsum(sizes) + false_positives
    return math.fsum(hits) / denominator if denominator > 0 else None


def _false_positives(confusion: np.ndarray, position: int, column: Optional[int] = None) -> int:
    """Pixels of other rows than `position` in a column, its own by default."""
    counts = confusion[:, position if column is None else column]
    return int(counts.sum() - counts[position])


def _hits_and_unions(confusion: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Pixels in intersection and union of each class."""
    hits = np.diagonal(confusion)
    return hits, confusion.sum(axis=0)[: len(confusion)] + confusion.sum(axis=1) - hits


def _ratio(part: int, whole: int) -> Optional[float]:
    return part / whole if whole else None


def _check(confusion: np.ndarray) -> None:
    if confusion.ndim != 2 or confusion.shape[0] > confusion.shape[1] or confusion.dtype.kind not in "iu":
        raise ValueError(
            f"confusion: {confusion.dtype}{confusion.shape}; a table of integers, row = truth, is expected"
        )
