"""Scores of predictions from anywhere, as files, by the rule of the official script.

As there, the prediction of a frame is the PNG whose name begins with the frame's, anywhere below a folder. A pixel may
hold any label id; one that is not trained is a miss. Pictures in the official colors are taken too.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from stdc import files
from stdc.data import png
from stdc.data.decode import decode_any
from stdc.data.labels import CATEGORY_NAMES, IGNORE, LABEL_ID_TO_TRAIN_ID, LABELS, NUM_CLASSES, TRAIN_NAMES
from stdc.data.layout import INSTANCE_IDS, LABEL_IDS, POLYGONS, SPLITS, Frame, read_layout, shown
from stdc.data.polygons import draw_train_ids, parse_annotation
from stdc.errors import InputError, InputErrors
from stdc.evaluation import metrics
from stdc.evaluation.counts import Counts
from stdc.evaluation.document import figures_of, scores_of_images
from stdc.machine.pool import run_parallel
from stdc.prediction.protocols import Protocol
from stdc.units import size_text

#: The frame's name, with which the name of a prediction file begins.
_FRAME = re.compile(r"(.+?_[0-9]{6}_[0-9]{6})(?![0-9]).*\.png")

#: Columns of the counts: trained classes, then the labels that are not trained.
_COLUMNS = NUM_CLASSES + len(metrics.UNTRAINED_LABELS)


class Job(NamedTuple):
    """One frame: its ground truth, relative to the dataset root, and its prediction."""

    frame: Frame
    prediction: Path


@dataclasses.dataclass(frozen=True)
class Scored:
    """What one frame gave: counts as in `stdc.evaluation.counts`, and the digest of the file that was judged."""

    confusion: np.ndarray
    objects: Optional[np.ndarray]
    size: Tuple[int, int]
    sha256: str


def judge_predictions(
    folder: Path,
    dataset: Path,
    split: str,
    *,
    processes: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Dict[str, Any]:
    """The content of a `metrics.json`; its protocol names no network, but the SHA-256 of all predictions.

    Args:
        folder: predictions, at any depth.
        dataset: root of a dataset in Cityscapes layout; only its ground truth is read.
        split: whose frames must be predicted.
        progress: called after each frame.
    Raises:
        InputErrors: lists every frame without a prediction, or with several.
        InputError: there is no such folder or split, or a prediction is unreadable, of another size, or holds what is
            no label.
    """
    jobs = find_predictions(folder, ground_truth(dataset, split))
    scored = run_parallel(
        functools.partial(_score, dataset), jobs, processes, lambda job: shown(job.prediction), lambda *_: progress()
    )
    counts = Counts(Protocol("predictions", (), False))
    for index, result in enumerate(scored):
        counts.confusions[index], counts.sizes[index] = result.confusion, result.size
        if result.objects is not None:
            counts.objects[index] = result.objects
    frames = [job.frame.name for job in jobs]
    document = figures_of(counts, frames)
    digests = "".join(f"{frame} {result.sha256}\n" for frame, result in zip(frames, scored))
    document["protocol"]["predictions_sha256"] = files.sha256_text(digests)
    return {**document, "protocols": [dict(document)], "per_image": scores_of_images(counts, frames)}


def suspicion(document: Mapping[str, Any]) -> Optional[str]:
    """What speaks for predictions in another numbering; None where nothing does.

    Args:
        document: of `judge_predictions`.
    """
    untrained = int(np.sum(list((document.get("untrained_predictions") or {"": [0]}).values())))
    pixels = int(np.sum(document["confusion"])) + untrained
    if 2 * untrained <= pixels:
        return None
    return (
        f"{100 * untrained / pixels:.0f} % of the pixels that count are predicted as labels that are not trained, all "
        f"of them errors. Are these train ids? Expected are label ids: road is {_ROAD}, not 0"
    )


def ground_truth(dataset: Path, split: str) -> List[Frame]:
    """The frames of a split that have ground truth, sorted.

    Raises:
        InputError: no such dataset, or no ground truth in the split.
    """
    frames = [
        frame
        for (own, _), frame in read_layout(dataset).frames.items()
        if own == split and (LABEL_IDS in frame.files or POLYGONS in frame.files)
    ]
    if not frames:
        raise InputError(f"{dataset}: no ground truth in split {split}; the splits are {', '.join(SPLITS)}")
    return frames


def find_predictions(folder: Path, frames: Sequence[Frame]) -> List[Job]:
    """The prediction of each frame, in the order of the frames.

    Raises:
        InputError: there is no such folder.
        InputErrors: lists every frame without a prediction, or with several.
    """
    if not folder.is_dir():
        raise InputError(f"{shown(folder)}: no such folder of predictions")
    found: Dict[str, List[Path]] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            match = _FRAME.fullmatch(name)
            # A link that leads nowhere predicts nothing.
            if match and (Path(parent) / name).is_file():
                found.setdefault(match.group(1), []).append(Path(parent) / name)
    problems = []
    for frame in frames:
        places = found.get(frame.name, [])
        if not places:
            problems.append(f"{frame.name}: no prediction {frame.name}*.png")
        elif len(places) > 1:
            listed = " and ".join(shown(path.relative_to(folder)) for path in places[:2])
            problems.append(f"{frame.name}: {len(places)} predictions, {listed}; leave one")
    if len(problems) == 1:
        raise InputError(f"{shown(folder)}: {problems[0]}")
    if problems:
        raise InputErrors(
            f"{shown(folder)}: {len(problems)} of {len(frames)} frames have not exactly one prediction", problems
        )
    return [Job(frame, found[frame.name][0]) for frame in frames]


def _score(dataset: Path, job: Job) -> Scored:
    truth = _truth(dataset, job.frame)
    data = files.read_bytes(job.prediction)
    label_ids = _label_ids(job.prediction, data)
    if label_ids.shape != truth.shape:
        raise InputError(
            f"{shown(job.prediction)}: {size_text(label_ids.shape)} pixels, but the ground truth has "
            f"{size_text(truth.shape)}"
        )
    columns = metrics.LABEL_ID_TO_COLUMN[label_ids]
    unknown = columns == IGNORE
    if unknown.any():
        raise InputError(
            f"{shown(job.prediction)}: holds {label_ids[unknown][0]}; expected label ids, 0 to 33, as the official "
            "script does"
        )
    instances = None
    if INSTANCE_IDS in job.frame.files:
        ids = _decode(dataset / job.frame.files[INSTANCE_IDS])
        if ids.shape != truth.shape:
            raise InputError(f"{job.frame.files[INSTANCE_IDS]}: {ids.shape} pixels, the label ids have {truth.shape}")
        instances = metrics.instance_counts(ids, columns)
    return Scored(
        confusion=metrics.confusion_matrix(truth, columns, columns=_COLUMNS),
        objects=instances,
        size=(truth.shape[0], truth.shape[1]),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _truth(dataset: Path, frame: Frame) -> np.ndarray:
    """Train ids, (H, W), uint8."""
    if LABEL_IDS in frame.files:
        ids = _decode(dataset / frame.files[LABEL_IDS])
        if ids.ndim != 2 or ids.dtype != np.uint8:
            raise InputError(f"{shown(frame.files[LABEL_IDS])}: not an 8-bit gray PNG of label ids")
        return LABEL_ID_TO_TRAIN_ID[ids]
    return draw_train_ids(parse_annotation(files.read_bytes(dataset / frame.files[POLYGONS])))


def _label_ids(path: Path, data: bytes) -> np.ndarray:
    """The label ids of a prediction, (H, W), uint8, from a gray PNG or one in the official colors."""
    try:
        png.check_png(data)
    except png.PngError as error:
        raise InputError(f"{shown(path)}: {error}") from None
    pixels = _decode(path, data)
    if pixels.dtype != np.uint8:
        raise InputError(f"{shown(path)}: {pixels.dtype.itemsize * 8} bits per value; expected 8")
    if pixels.ndim == 2:
        return pixels
    # OpenCV gives blue, green, red, and transparency where there is any.
    codes = pixels[..., 2].astype(np.int32) << 16 | pixels[..., 1].astype(np.int32) << 8 | pixels[..., 0]
    known = np.array(sorted(_IDS_OF_COLORS), np.int32)
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    wrong = known[place] != codes
    if wrong.any():
        code = int(codes[wrong][0])
        color = (code >> 16, code >> 8 & 255, code & 255)
        raise InputError(
            f"{shown(path)}: holds the color {color}, which no label of Cityscapes has; expected label ids in gray, or "
            "the official colors without blending"
        )
    return np.array([_IDS_OF_COLORS[code] for code in known.tolist()], np.uint8)[place]


def _decode(path: Path, data: Optional[bytes] = None) -> np.ndarray:
    content = np.frombuffer(files.read_bytes(path) if data is None else data, np.uint8)
    # Pixels as they are stored: an orientation tag would turn the prediction, but not its ground truth.
    pixels = decode_any(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise InputError(f"{shown(path)}: not a readable picture")
    return np.asarray(pixels)


def _ids_of_colors() -> Dict[int, int]:
    """Label id by color as one number; a trained label before others of its color, such as car before license plate."""
    table: Dict[int, int] = {}
    for label in sorted(LABELS, key=lambda label: (label.ignoreInEval, label.id)):
        if label.id >= 0:
            red, green, blue = label.color
            table.setdefault(red << 16 | green << 8 | blue, label.id)
    return table


_IDS_OF_COLORS: Mapping[int, int] = _ids_of_colors()
_ROAD = next(label.id for label in LABELS if label.name == "road")


def table_text(document: Mapping[str, Any]) -> str:
    """The scores for a terminal: one line per class and category, in percent; "-" where nothing occurs."""
    objects = document.get("iiou") or {"class_iiou": {}, "category_iiou": {}, "miiou": None}

    def line(name: str, score: Optional[float], weighted: Optional[float]) -> str:
        return f"{name:<16}" + "".join(f"{'-' if one is None else f'{100 * one:.2f}':>8}" for one in (score, weighted))

    lines = [f"{'class':<16}{'IoU':>8}{'iIoU':>8}"]
    lines += [line(name, document["class_iou"][name], objects["class_iiou"].get(name)) for name in TRAIN_NAMES]
    lines += [line("mean", document["miou"], objects["miiou"]), ""]
    categories = document["category_iou"]
    lines += [line(name, categories[name], objects["category_iiou"].get(name)) for name in CATEGORY_NAMES]
    lines += [
        line(
            "mean",
            metrics.mean_score(list(categories.values())),
            metrics.mean_score(list(objects["category_iiou"].values())),
        ),
        "",
        line("pixel accuracy", document["pixel_accuracy"], None).rstrip(" -"),
        f"{document['images']} images",
    ]
    return "\n".join(lines)
