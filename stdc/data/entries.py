"""What training and evaluation read: the frames of a list, each file with the digest that the check found."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from stdc.data.convert import index_key, raster_path, read_index
from stdc.data.entry import Entry
from stdc.data.lists import read_lines
from stdc.data.manifest import read_manifest
from stdc.errors import InputErrors, shown


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A dataset as the data stages left it.

    Attributes:
        root: the dataset; only read.
        labels: folder of the label rasters.
        manifest: of check_dataset (format: ARCHITECTURE.md).
        index: SHA-256 of each raster by `<split>/<frame>`.
    """

    root: Path
    labels: Path
    manifest: Mapping[str, Any]
    index: Mapping[str, str]


def read_prepared(root: Path, labels: Path, manifest: Path, index: Path) -> PreparedDataset:
    """Read the manifest and the index of label rasters.

    Raises:
        InputError: one of them is missing or unusable, or the two do not belong together.
    """
    return PreparedDataset(root, labels, read_manifest(manifest), read_index(index, manifest))


def read_entries(path: Path, split: str, prepared: PreparedDataset, separator: str) -> List[Entry]:
    """Read a list file and compare every line of it with what was checked.

    Args:
        split: the one that all frames must belong to: `train` or `val`.
        separator: between the two paths of a line.
    Raises:
        InputErrors: lists every line that is wrong, or names a frame or a path that the manifest does not know.
        InputError: the file is missing, unreadable or empty.
    """
    known = {frame["image"]["path"]: frame for frame in prepared.manifest["frames"]}
    entries: List[Entry] = []
    problems: List[str] = []
    for line in read_lines(path, separator):
        frame = known.get(line.image)
        problem = _line_problem(line.image, line.label, frame, split, prepared)
        if problem or frame is None:
            problems.append(f"line {line.number}: {problem}")
        else:
            entries.append(_entry(frame, prepared))
    if problems:
        raise InputErrors(
            f"{shown(path)}: {len(problems)} lines do not fit the dataset; make the list anew with create_lists",
            problems,
        )
    return entries


def image_entries(root: Path, manifest: Mapping[str, Any], split: str) -> List[Entry]:
    """The images of a split, without ground truth."""
    return [
        Entry(frame["frame"], root / frame["image"]["path"], image_sha256=frame["image"]["sha256"])
        for frame in manifest["frames"]
        if frame["split"] == split
    ]


def _line_problem(
    image: str, label: str, frame: Optional[Mapping[str, Any]], split: str, prepared: PreparedDataset
) -> str:
    """What is wrong with a line, or an empty text."""
    if frame is None:
        return f"{shown(image)}: not in the manifest"
    if frame["split"] != split:
        return f"{shown(image)}: belongs to split {frame['split']}, this is a list of {split}"
    expected = raster_path(frame)
    if label != expected:
        return f"label {shown(label)}, expected {shown(expected)}"
    if index_key(frame) not in prepared.index:
        return f"{shown(label)}: not in the index of label rasters"
    for file in (prepared.root / image, prepared.labels / label):
        if not file.is_file():
            return f"{shown(file)}: no such file"
    return ""


def _entry(frame: Mapping[str, Any], prepared: PreparedDataset) -> Entry:
    instances: Optional[Dict[str, Any]] = frame.get("instance")
    return Entry(
        frame=frame["frame"],
        image=prepared.root / frame["image"]["path"],
        label=prepared.labels / raster_path(frame),
        image_sha256=frame["image"]["sha256"],
        label_sha256=prepared.index[index_key(frame)],
        instances=prepared.root / instances["path"] if instances else None,
        instances_sha256=instances["sha256"] if instances else None,
    )
