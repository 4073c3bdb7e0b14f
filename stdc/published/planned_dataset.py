"""The dataset that a configuration names, looked at before anything runs and without opening an image."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Dict, NamedTuple, Optional

from stdc.data.layout import IMAGE, IMAGE_TREE, SUFFIXES, WRAPPERS, shown
from stdc.errors import InputError
from stdc.published.configured_run import SPLITS, ConfiguredRun


class Dataset(NamedTuple):
    """What the configuration names, looked at without opening an image.

    Attributes:
        kind: "synthetic", "folder" or "archives".
        text: for people: "generated", or the folder.
        frames: number of images by split; None where that cannot be seen.
    """

    kind: str
    text: str
    frames: Optional[Dict[str, int]]


def look_at_dataset(run: ConfiguredRun, folder: Optional[str]) -> Dataset:
    """What will be trained and evaluated on.

    Args:
        folder: the user's; None for a generated dataset.
    Raises:
        InputError: no such folder.
    """
    if folder is None:
        if run.expected == "cityscapes":
            return Dataset("folder", "none given yet; a forecast for the full Cityscapes", None)
        counts = dict(run.generated)
        return Dataset("synthetic", "generated, a mini-Cityscapes", counts if len(counts) == len(SPLITS) else None)
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"dataset: {shown(str(root))}: no such folder")
    trees = (root / IMAGE_TREE, root / WRAPPERS[IMAGE_TREE] / IMAGE_TREE)
    if not any(tree.is_dir() for tree in trees) and (root / f"{WRAPPERS[IMAGE_TREE]}.zip").is_file():
        return Dataset("archives", shown(str(root)), _frames_in_archive(root / f"{WRAPPERS[IMAGE_TREE]}.zip"))
    images = {split: sum(_count(tree / split) for tree in trees) for split in SPLITS}
    return Dataset("folder", shown(str(root)), images)


def _count(split: Path) -> int:
    return sum(1 for _ in split.glob(f"*/*{SUFFIXES[IMAGE]}"))


def _frames_in_archive(path: Path) -> Optional[Dict[str, int]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(SUFFIXES[IMAGE])]
    except (OSError, zipfile.BadZipFile, ValueError, RuntimeError):
        # Whether the archive is sound is for extract_dataset to say.
        return None
    return {split: sum(f"{IMAGE_TREE}/{split}/" in name for name in names) for split in SPLITS}
