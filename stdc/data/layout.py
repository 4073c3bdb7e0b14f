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
from stdc.errors import InputError, shown

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
#: What operating systems, file servers, and unpacking tools leave behind, beside names that start with one of _MARKS.
_LITTER = {"Thumbs.db", "desktop.ini", "lost+found", "__MACOSX", "System Volume Information"}
#: "." is hidden; "@eaDir", "#recycle", and "$RECYCLE.BIN" belong to file servers.
_MARKS = (".", "@", "#", "$")
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
        left_out: what was found and is no part of a dataset, one line each.
    """

    frames: Dict[Tuple[str, str], Frame]
    folders: Dict[str, str]
    problems: List[str]
    left_out: List[str]


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
    """Whether a path can name a file, and leaves its root neither by `..` nor by being absolute.

    Links are not looked at.
    """
    if not path or path.startswith("/") or ".." in path.split("/"):
        return False
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in path)


def refuse_inside(output: Path, root: Path, what: str) -> None:
    """Refuse an output that lies in a folder of the user, which is only read.

    Raises:
        InputError: `output` lies in `root`.
    """
    output, root = _resolved(output), _resolved(root)
    if output == root or root in output.parents:
        raise InputError(
            f"{shown(output)}: {what} would be written into {shown(root)}, which is only read; choose another place"
        )


def _resolved(path: Path) -> Path:
    try:
        return Path(path).resolve()
    except (RuntimeError, OSError):
        raise InputError(f"{shown(path)}: a link that leads to itself; expected a folder") from None


def read_layout(root: Path) -> Layout:
    """List the frames of a dataset folder. File contents are not read.

    Raises:
        InputError: there is no such folder, or neither half of the layout is in it.
    """
    layout = Layout({}, {}, [], [])
    _find_trees(root, layout)
    for tree, folder in layout.folders.items():
        for split in SPLITS:
            _read_split(root, tree, f"{folder}/{split}", split, layout)
    return layout._replace(frames=dict(sorted(layout.frames.items())))


def _is_folder(root: Path, relative: str, problems: List[str]) -> bool:
    """Whether there is such a folder; one that is there and cannot be used is a problem."""
    path = root / relative
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            problems.append(f"{shown(relative)}: broken link")
        return False
    except OSError as error:
        problems.append(f"{shown(relative)}: not readable ({error.strerror})")
        return False


def _find_trees(root: Path, layout: Layout) -> None:
    unusable: List[str] = []
    if not _is_folder(root, ".", unusable):
        found = "is not a folder" if root.exists() else "no such folder"
        raise InputError(f"dataset {shown(root)}: {found}{_listed(unusable)}. {HOW_TO_GET}")
    folders, problems = layout.folders, layout.problems
    for tree, wrapper in WRAPPERS.items():
        places = [place for place in (tree, f"{wrapper}/{tree}") if _is_folder(root, place, unusable)]
        if len(places) > 1:
            problems.append(f"{places[0]} and {places[1]}: two copies; which one counts? Remove one")
        if places:
            folders[tree] = places[0]
            continue
        packed = f"{wrapper}.zip"
        hint = f"; {packed} lies there packed: unpack it there, too" if (root / packed).is_file() else ""
        problems.append(f"{tree}: no such folder in {shown(root)}{hint}")
    if not folders:
        raise InputError(
            f"dataset {shown(root)}: neither {IMAGE_TREE}/ nor {TRUTH_TREE}/ is in it{_listed(unusable)}{_hint(root)}."
            f" {HOW_TO_GET}"
        )
    problems.extend(unusable)


def _listed(problems: List[str]) -> str:
    return "".join(f"; {problem}" for problem in problems)


def _hint(root: Path) -> str:
    archives = [name for name in ARCHIVES if (root / name).is_file()]
    if archives:
        return f"; {' and '.join(archives)} must be unpacked first (program extract_dataset)"
    if root.name in (IMAGE_TREE, TRUTH_TREE):
        return f"; name the folder above it, {shown(root.resolve().parent)}"
    try:
        below = sorted(child.name for child in root.iterdir() if (child / IMAGE_TREE).is_dir())
    except OSError:
        below = []
    return f"; {shown(root / below[0])} holds one" if below else ""


def _entries(folder: Path, relative: str, layout: Layout) -> Iterator[Tuple[str, bool]]:
    """Names in a folder, sorted, each with whether it is a folder; links are followed, litter is left out."""
    problems = layout.problems
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError as error:
        problems.append(f"{shown(relative)}: cannot be listed ({error.strerror})")
        return
    for name in names:
        path = f"{relative}/{name}"
        if name.startswith(_MARKS) or name in _LITTER:
            # Hidden files are common and nobody's concern; a folder with a name of its own is worth a line.
            if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini"):
                layout.left_out.append(f"{shown(path)}: no part of a dataset")
            continue
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


def _read_split(root: Path, tree: str, relative: str, split: str, layout: Layout) -> None:
    if not _is_folder(root, relative, layout.problems):
        # The check of splits reports it, as an empty one.
        return
    loose: List[str] = []
    for city, is_folder in _entries(root / relative, relative, layout):
        if is_folder:
            _read_city(root, tree, relative, split, city, layout)
        elif city.endswith(_PICTURES) or city.endswith(".json"):
            loose.append(city)
    if loose:
        layout.problems.append(
            f"{relative}: {len(loose)} files in no city folder, first {shown(loose[0])}; expected {relative}/<city>/"
        )


def _read_city(root: Path, tree: str, parent: str, split: str, city: str, layout: Layout) -> None:
    seen = False
    relative = f"{parent}/{city}"
    problems = layout.problems
    found_before = len(problems)
    for name, is_folder in _entries(root / relative, relative, layout):
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
            problems.append(
                f"{shown(path)}: belongs to {shown(frame_city(frame))} but lies in the folder of {shown(city)}"
            )
        else:
            entry = layout.frames.setdefault((split, frame), Frame(split, city, frame, {}))
            entry.files[kind] = path
    if not seen and len(problems) == found_before:
        # What lies in the other tree for this city, if anything, is reported frame by frame as unpaired.
        layout.left_out.append(f"{shown(relative)}: no {_expected_endings(tree)} in it")


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
