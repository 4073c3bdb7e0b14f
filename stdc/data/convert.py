"""Rasters of train ids for every frame that has ground truth."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Set

import cv2
import numpy as np
import PIL

from stdc.data.codecs import crc32
from stdc.data.frame_checks import decode_gray
from stdc.data.labels import IGNORE, LABEL_ID_TO_TRAIN_ID
from stdc.data.layout import LABEL_IDS, POLYGONS, SUFFIXES, TRAIN_IDS, TRUTH_TREE, frame_path, refuse_inside
from stdc.data.manifest import is_digest, read_manifest
from stdc.data.png import encode_gray
from stdc.data.polygons import draw_train_ids, parse_annotation
from stdc.errors import InputError, shown
from stdc.files import (
    canonical_json,
    read_bytes,
    read_json,
    replace_bytes,
    sha256_file,
    sha256_text,
    sync_files,
    write_json,
)
from stdc.machine.pool import run_parallel
from stdc.progress import Progress

#: Rows of a raster that are summed up together.
_BAND_ROWS = 16


def raster_path(entry: Mapping[str, Any]) -> str:
    """Where the raster of a frame lies, relative to the labels folder.

    Args:
        entry: a frame of the manifest.
    """
    return frame_path(TRAIN_IDS, entry["split"], entry["city"], entry["frame"])


def index_key(entry: Mapping[str, Any]) -> str:
    """The name of a frame in the index of rasters."""
    return f"{entry['split']}/{entry['frame']}"


def convert_labels(
    root: Path,
    manifest_path: Path,
    output: Path,
    index: Path,
    *,
    processes: int = 1,
    progress: Optional[Callable[[int], Progress]] = None,
) -> Dict[str, Any]:
    """Write `output`/gtFine/<split>/<city>/<frame>_gtFine_labelTrainIds.png for every frame with ground truth.

    The folder counts as complete once `index` exists: it is removed first and written last. Rasters of frames that are
    not in the manifest are removed, so that the folder holds what the index says.

    Args:
        processes: how many share the work; the bytes written do not depend on it.

    Returns:
        What was written to `index` (format: ARCHITECTURE.md, labels.json).

    Raises:
        InputError: the manifest is unusable, a file is not the one that was checked, or training frames have no class.
        OSError: the disk is full or not writable; no index is left.
    """
    refuse_inside(output, root, "the labels")
    refuse_inside(index, root, "the index of the labels")
    manifest = read_manifest(manifest_path)
    manifest_sha256 = sha256_file(manifest_path)
    source = manifest["label_source"]
    entries = [entry for entry in manifest["frames"] if entry.get("label")]
    if index.exists():
        index.unlink()
    for folder in sorted({(output / raster_path(entry)).parent for entry in entries}):
        folder.mkdir(parents=True, exist_ok=True)
    line = progress(len(entries)) if progress else None
    made = run_parallel(
        functools.partial(_convert, root, output, source),
        entries,
        processes,
        name=lambda entry: shown(entry["label"]["path"]),
        done=lambda index, raster: line.step() if line else None,
    )
    if line:
        line.finish()
    labeled = {entry["split"] for entry, raster in zip(entries, made) if raster.has_class}
    if entries and "train" not in labeled:
        raise InputError("train: not one pixel of a trained class in all label rasters; nothing could be learned")
    _remove_others(output, {raster_path(entry) for entry in entries})
    if entries:
        sync_files(output)
    content = {
        "source": source,
        "manifest_sha256": manifest_sha256,
        # Pillow's version stands in the index, because it decides how polygons are drawn.
        "pillow": PIL.__version__ if source == POLYGONS else None,
        "frames": {index_key(entry): raster.sha256 for entry, raster in zip(entries, made)},
        "pixels": {index_key(entry): raster.pixels_sha256 for entry, raster in zip(entries, made)},
    }
    write_json(index, content)
    return content


def read_index(path: Path, manifest_path: Path) -> Dict[str, str]:
    """The rasters that `convert_labels` made from a manifest: sha256 by `<split>/<frame>`.

    Raises:
        InputError: no index, or one of another manifest.
    """
    content = read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, dict) or not all(is_digest(digest) for digest in frames.values()):
        raise InputError(f"{shown(path)}: not an index of label rasters; make it again with convert_labels")
    if content.get("manifest_sha256") != sha256_file(manifest_path):
        raise InputError(
            f"{shown(path)}: made from another manifest than {shown(manifest_path)}; run convert_labels again"
        )
    return dict(frames)


def labels_digest(path: Path) -> str:
    """One SHA-256 of what all rasters of an index show: equal pixels give an equal one, however they are compressed.

    Raises:
        InputError: no index, or one of an earlier version.
    """
    content = read_json(path)
    pixels = content.get("pixels") if isinstance(content, dict) else None
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(pixels, dict) or not isinstance(frames, dict) or set(pixels) != set(frames):
        raise InputError(f"{shown(path)}: says of no raster, or not of all, what it shows; run convert_labels again")
    if not all(is_digest(digest) for digest in pixels.values()):
        raise InputError(f"{shown(path)}: pixels: SHA-256 digests are expected; run convert_labels again")
    return sha256_text(canonical_json(pixels))


class _Raster(NamedTuple):
    """What is known of a raster once it is written.

    Attributes:
        sha256: of the file.
        pixels_sha256: of its size and train ids; the file's bytes depend on what compresses them.
        has_class: whether any of its pixels has a trained class.
    """

    sha256: str
    pixels_sha256: str
    has_class: bool


def _convert(root: Path, output: Path, source: str, entry: Dict[str, Any]) -> _Raster:
    """Write one raster."""
    label = entry["label"]
    try:
        data = read_bytes(root / label["path"])
    except InputError as error:
        raise InputError(
            f"{shown(label['path'])}: in the manifest but not in the dataset ({error}); run check_dataset again"
        ) from None
    if hashlib.sha256(data).hexdigest() != label["sha256"]:
        raise InputError(f"{shown(label['path'])}: not the file that the manifest names; run check_dataset again")
    if source == LABEL_IDS:
        train_ids = cv2.LUT(decode_gray(data), LABEL_ID_TO_TRAIN_ID)
    else:
        train_ids = draw_train_ids(parse_annotation(data))
    raster = encode_gray(train_ids)
    replace_bytes(output / raster_path(entry), raster)
    return _Raster(hashlib.sha256(raster).hexdigest(), _pixels_sha256(train_ids), bool(train_ids.min() != IGNORE))


def _pixels_sha256(train_ids: np.ndarray) -> str:
    """SHA-256 of the size and of a CRC-32 per band of rows: what a raster shows, at a tenth of the pixels' own SHA-256.

    It tells runs apart; that the file is the one that was made is the business of the file's SHA-256.
    """
    height, width = train_ids.shape
    bands = [train_ids[row : row + _BAND_ROWS] for row in range(0, height, _BAND_ROWS)]
    sums = np.array([crc32(np.ascontiguousarray(band)) for band in bands], "<u4")
    return hashlib.sha256(f"{height}x{width}\n".encode("ascii") + sums.tobytes()).hexdigest()


def _remove_others(output: Path, wanted: Set[str]) -> None:
    """Rasters of another dataset, and unfinished files of a killed run."""
    for path in output.glob(f"{TRUTH_TREE}/*/*/*{SUFFIXES[TRAIN_IDS]}"):
        if path.relative_to(output).as_posix() not in wanted:
            path.unlink()
