"""Where the files of a Cityscapes-format folder lie, and how they belong together.

`leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png` and `gtFine/<split>/<city>/<frame>_gtFine_<kind>`, with
`frame` = `{city}_{seq:06}_{frame:06}`. Files belong together by frame name, never by position in a listing.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from stdc.data.cityscapes import ARCHIVES, HOW_TO_GET
from stdc.errors import InputError

#: In the usual order, which messages and tables follow.
SPLITS = ("train", "val", "test")
IMAGE_TREE = "leftImg8bit"
TRUTH_TREE = "gtFine"
#: Unpacking tools put each zip's content into a folder named after it.
WRAPPERS: Mapping[str, str] = {IMAGE_TREE: "leftImg8bit_trainvaltest", TRUTH_TREE: "gtFine_trainvaltest"}

IMAGE = "image"
POLYGONS = "polygons"
LABEL_IDS = "labelIds"
INSTANCE_IDS = "instanceIds"
COLOR = "color"
TRAIN_IDS = "labelTrainIds"
#: How the name of a file ends, by kind.
SUFFIXES: Mapping[str, str] = {
    IMAGE: "_leftImg8bit.png",
    POLYGONS: "_gtFine_polygons.json",
    LABEL_IDS: "_gtFine_labelIds.png",
    INSTANCE_IDS: "_gtFine_instanceIds.png",
    COLOR: "_gtFine_color.png",
    TRAIN_IDS: "_gtFine_labelTrainIds.png",
}
#: The kinds that are read from a dataset folder.
READ_KINDS = (IMAGE, POLYGONS, LABEL_IDS, INSTANCE_IDS)

_FRAME = re.compile(r"(?P<city>.+)_[0-9]{6}_[0-9]{6}")
#: Files that operating systems and unpacking tools leave behind.
_LITTER = {"Thumbs.db", "desktop.ini"}
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class Frame(NamedTuple):
    """One moment seen by the camera, with the files that exist of it.

    Args:
        files: path relative to the dataset root, by kind (IMAGE, POLYGONS, LABEL_IDS, INSTANCE_IDS).
    """

    split: str
    city: str
    name: str
    files: Dict[str, str]


class Layout(NamedTuple):
    """What `read_layout` found.

    Args:
        frames: by split and frame name, sorted.
        folders: the folder of each tree relative to the dataset root, wrapper included.
        problems: what does not follow the layout, one line each.
    """

    frames: Dict[Tuple[str, str], Frame]
    folders: Dict[str, str]
    problems: List[str]


def frame_city(name: str) -> Optional[str]:
    """The city in a frame name, or None if it is not a frame name."""
    match = _FRAME.fullmatch(name)
    return match.group("city") if match else None


def frame_of(path: str, suffix: str) -> Optional[str]:
    """The frame name of a file `<folder>/<frame><suffix>`, or None if the path is no such thing."""
    name = PurePosixPath(path).name
    frame = name[: -len(suffix)] if name.endswith(suffix) else ""
    return frame if frame_city(frame) else None


def frame_path(kind: str, split: str, city: str, frame: str, tree: Optional[str] = None) -> str:
    """Where a file of a frame lies, relative to the dataset root (TRAIN_IDS: to the folder of rasters).

    Args:
        kind: IMAGE, POLYGONS, LABEL_IDS, INSTANCE_IDS, COLOR, or TRAIN_IDS.
        tree: folder of the tree where it has a wrapper, such as `gtFine_trainvaltest/gtFine`.
    """
    tree = tree or (IMAGE_TREE if kind == IMAGE else TRUTH_TREE)
    return f"{tree}/{split}/{city}/{frame}{SUFFIXES[kind]}"


def find_images(root: Path) -> Iterator[Path]:
    """Images of validation, training, and test, with or without wrapper; neither names nor contents are checked."""
    for tree in (root / IMAGE_TREE, root / WRAPPERS[IMAGE_TREE] / IMAGE_TREE):
        for split in ("val", "train", "test"):
            yield from tree.glob(f"{split}/*/*{SUFFIXES[IMAGE]}")


def stays_inside(path: str) -> bool:
    """Whether a relative path leaves its root neither by `..` nor by being absolute. Links are not looked at."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not path.startswith("/") and ".." not in parts


def shown(text: object) -> str:
    """A name on one line, whatever characters it holds."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def refuse_inside(output: Path, root: Path, what: str) -> None:
    """Refuse an output that lies in a folder of the user, which is only read.

    Raises:
        InputError: `output` lies in `root`.
    """
    output, root = Path(output).resolve(), Path(root).resolve()
    if output == root or root in output.parents:
        raise InputError(f"{output}: {what} would be written into {root}, which is only read; choose another place")


def read_layout(root: Path) -> Layout:
    """List the frames of a dataset folder. File contents are not read.

    Raises:
        InputError: there is no such folder, or neither half of the layout is in it.
    """
    folders, problems = _find_trees(root)
    frames: Dict[Tuple[str, str], Frame] = {}
    for tree, folder in folders.items():
        for split in SPLITS:
            _read_split(root, tree, f"{folder}/{split}", split, frames, problems)
    return Layout(dict(sorted(frames.items())), folders, problems)


def _find_trees(root: Path) -> Tuple[Dict[str, str], List[str]]:
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "no such folder"
        raise InputError(f"dataset {root}: {found}. {HOW_TO_GET}")
    folders: Dict[str, str] = {}
    problems: List[str] = []
    for tree, wrapper in WRAPPERS.items():
        places = [place for place in (tree, f"{wrapper}/{tree}") if (root / place).is_dir()]
        if len(places) > 1:
            problems.append(f"{places[0]} and {places[1]}: two copies; which one counts? Remove one")
        if places:
            folders[tree] = places[0]
        else:
            problems.append(f"{tree}: no such folder in {root}")
    if not folders:
        raise InputError(f"dataset {root}: neither {IMAGE_TREE}/ nor {TRUTH_TREE}/ is in it{_hint(root)}. {HOW_TO_GET}")
    return folders, problems


def _hint(root: Path) -> str:
    archives = [name for name in ARCHIVES if (root / name).is_file()]
    if archives:
        return f"; {' and '.join(archives)} must be unpacked first (program extract_dataset)"
    if root.name in (IMAGE_TREE, TRUTH_TREE):
        return f"; name the folder above it, {root.resolve().parent}"
    below = sorted(child.name for child in root.iterdir() if (child / IMAGE_TREE).is_dir())
    return f"; {root / below[0]} holds one" if below else ""


def _entries(folder: Path, relative: str, problems: List[str]) -> Iterator[Tuple[str, bool]]:
    """Names in a folder, sorted, each with whether it is a folder; links are followed, litter is left out."""
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError as error:
        problems.append(f"{shown(relative)}: cannot be listed ({error.strerror})")
        return
    for name in names:
        if name.startswith(".") or name in _LITTER:
            continue
        path = f"{relative}/{name}"
        if any("\ud800" <= character <= "\udfff" for character in name):
            problems.append(f"{shown(path)}: the name is not UTF-8; rename it")
            continue
        try:
            mode = (folder / name).stat().st_mode
        except OSError as error:
            kind = "broken link" if (folder / name).is_symlink() else "not readable"
            problems.append(f"{shown(path)}: {kind} ({error.strerror})")
            continue
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            yield name, stat.S_ISDIR(mode)
        else:
            problems.append(f"{shown(path)}: neither a file nor a folder")


def _read_split(
    root: Path, tree: str, relative: str, split: str, frames: Dict[Tuple[str, str], Frame], problems: List[str]
) -> None:
    folder = root / relative
    if not folder.is_dir():
        # The check of splits reports it, as an empty one.
        return
    loose: List[str] = []
    for city, is_folder in _entries(folder, relative, problems):
        if is_folder:
            _read_city(root, tree, f"{relative}/{city}", split, city, frames, problems)
        elif city.endswith(_PICTURES) or city.endswith(".json"):
            loose.append(city)
    if loose:
        problems.append(
            f"{relative}: {len(loose)} files in no city folder, first {shown(loose[0])}; expected {relative}/<city>/"
        )


def _read_city(
    root: Path,
    tree: str,
    relative: str,
    split: str,
    city: str,
    frames: Dict[Tuple[str, str], Frame],
    problems: List[str],
) -> None:
    seen = False
    for name, is_folder in _entries(root / relative, relative, problems):
        path = f"{relative}/{name}"
        kind = _kind(tree, name)
        if kind is None:
            if _unexpected(tree, name):
                problems.append(f"{shown(path)}: unexpected file; names here end with {_expected_endings(tree)}")
            continue
        seen = True
        frame = name[: -len(SUFFIXES[kind])]
        if is_folder:
            problems.append(f"{shown(path)}: is a folder, expected a file")
        elif frame_city(frame) is None:
            problems.append(f"{shown(path)}: expected {shown(city)}_<6 digits>_<6 digits>{SUFFIXES[kind]}")
        elif frame_city(frame) != city:
            problems.append(f"{shown(path)}: belongs to {frame_city(frame)} but lies in the folder of {shown(city)}")
        else:
            entry = frames.setdefault((split, frame), Frame(split, city, frame, {}))
            entry.files[kind] = path
    if not seen:
        problems.append(f"{shown(relative)}: no {_expected_endings(tree)} in it")


def _kind(tree: str, name: str) -> Optional[str]:
    kinds = (IMAGE,) if tree == IMAGE_TREE else (POLYGONS, LABEL_IDS, INSTANCE_IDS)
    for kind in kinds:
        if name.endswith(SUFFIXES[kind]):
            return kind
    return None


def _unexpected(tree: str, name: str) -> bool:
    """Whether a file of no known kind may be a misnamed one; the ground truth has kinds that are not used."""
    lower = name.lower()
    if tree == IMAGE_TREE:
        return lower.endswith(_PICTURES)
    return lower.endswith((*_PICTURES, ".json")) and "_gtfine_" not in lower


def _expected_endings(tree: str) -> str:
    if tree == IMAGE_TREE:
        return SUFFIXES[IMAGE]
    return " or ".join(SUFFIXES[kind] for kind in (LABEL_IDS, POLYGONS))
