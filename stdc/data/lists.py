"""The lists that name what is trained and evaluated on: `<image><separator><label>`, one line per frame.

The image is relative to the dataset root, the label to the folder of label rasters. Both carry the frame name, and a
line whose two sides name different frames is refused: pairing never depends on order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from stdc.data.convert import index_key, raster_path
from stdc.data.layout import IMAGE, SPLITS, SUFFIXES, TRAIN_IDS, frame_of, stays_inside
from stdc.errors import InputError, InputErrors, shown
from stdc.files import PathLike, read_text, write_text


class Line(NamedTuple):
    """A line of a list.

    Args:
        number: in the file, from 1.
        image: path relative to the dataset root.
        label: path relative to the folder of label rasters.
    """

    number: int
    image: str
    label: str


def make_lists(
    manifest: Dict[str, Any],
    index: Dict[str, str],
    subset: Optional[Dict[str, Optional[int]]] = None,
) -> Dict[str, List[Tuple[str, str]]]:
    """(image, label) paths by split, sorted by frame. Frames of a test split without ground truth have no line.

    Args:
        manifest: of check_dataset.
        index: sha256 by `<split>/<frame>`, as `convert.read_index` gives it.
        subset: how many frames to take of a split; None or absent means all.

    Raises:
        InputError: a raster is missing, or a subset asks for more than there is.
    """
    lists: Dict[str, List[Tuple[str, str]]] = {}
    for split in SPLITS:
        entries = [entry for entry in manifest["frames"] if entry["split"] == split and entry.get("label")]
        entries.sort(key=lambda entry: entry["frame"])
        missing = [index_key(entry) for entry in entries if index_key(entry) not in index]
        if missing:
            raise InputError(
                f"{len(missing)} frames have no label raster, first {shown(missing[0])}; run convert_labels again"
            )
        count = (subset or {}).get(split)
        if count is not None:
            entries = take_subset(entries, count, f"data.subset.{split}")
        lists[split] = [(entry["image"]["path"], raster_path(entry)) for entry in entries]
    return lists


def take_subset(entries: Sequence[Dict[str, Any]], count: int, key: str) -> List[Dict[str, Any]]:
    """`count` entries, as even over the cities as these allow, spread evenly within each; depends on nothing else.

    Args:
        entries: frames of the manifest, sorted.
        key: the configuration key that asked, for messages.

    Raises:
        InputError: there are fewer, or none is asked for.
    """
    if not 1 <= count <= len(entries):
        raise InputError(f"{key}: {count} frames asked for, expected 1 to {len(entries)}, as many as the dataset has")
    cities: Dict[str, List[Dict[str, Any]]] = {}
    for entry in entries:
        cities.setdefault(entry["city"], []).append(entry)
    share = dict.fromkeys(sorted(cities), 0)
    while sum(share.values()) < count:
        for city in share:
            if share[city] < len(cities[city]) and sum(share.values()) < count:
                share[city] += 1
    chosen = [
        frames[(2 * position + 1) * len(frames) // (2 * share[city])]
        for city, frames in cities.items()
        for position in range(share[city])
    ]
    return sorted(chosen, key=lambda entry: str(entry["frame"]))


def write_lists(folder: PathLike, lists: Mapping[str, Sequence[Tuple[str, str]]], separator: str) -> None:
    """Write `<split>.txt` for each split, or none of them.

    Raises:
        InputError: a path holds the separator or a line break, or the separator is none.
    """
    check_separator(separator)
    texts = {split: _list_text(pairs, separator) for split, pairs in lists.items()}
    for split, text in texts.items():
        write_text(Path(folder) / f"{split}.txt", text)


def _list_text(pairs: Sequence[Tuple[str, str]], separator: str) -> str:
    for line in pairs:
        for part in line:
            if separator in part:
                raise InputError(
                    f"{shown(part)}: holds the separator {separator!r} of the list; set data.separator to another, such"
                    " as a tab"
                )
            if not part.isprintable():
                raise InputError(f"{shown(part)}: a line break or another control character in a path; rename the file")
    return "".join(f"{image}{separator}{label}\n" for image, label in pairs)


def check_separator(separator: str) -> None:
    """Refuse what cannot separate two paths.

    Raises:
        InputError: empty, or with a line break.
    """
    if not separator or len(separator.splitlines()) > 1 or separator.splitlines() != [separator]:
        raise InputError(f"data.separator: {separator!r}, expected one or more characters of one line, such as a comma")


def read_lines(path: PathLike, separator: str) -> List[Line]:
    """Read a list file and check the form of every line.

    Raises:
        InputErrors: lists every bad line with its number.
        InputError: the file is missing, unreadable or empty.
        OSError: it cannot be read now.
    """
    check_separator(separator)
    try:
        text = read_text(path, "a list")
    except InputError as error:
        raise InputError(f"{error}; make the list with create_lists") from None
    lines: List[Line] = []
    problems: List[str] = []
    first: Dict[str, int] = {}
    for number, text_line in enumerate(text.split("\n"), start=1):
        if not text_line.strip():
            continue
        fields = text_line.rstrip("\r").split(separator)
        problem = _form_problem(fields, text_line, separator)
        if not problem and fields[0] in first:
            problem = f"the image of line {first[fields[0]]} again"
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            first[fields[0]] = number
            lines.append(Line(number, fields[0], fields[1]))
    if problems:
        raise InputErrors(f"{shown(path)}: {len(problems)} bad lines", problems)
    if not lines:
        raise InputError(f"{shown(path)}: the list is empty; expected a line <image>{separator}<label> for each frame")
    return lines


def _form_problem(fields: Sequence[str], line: str, separator: str) -> str:
    """What is wrong with the form of a line, or an empty text."""
    if len(fields) != 2:
        return f"{len(fields)} fields, expected <image>{shown(separator)}<label>: {shown(line[:200])}"
    frames = []
    for name, relative, suffix in (("image", fields[0], SUFFIXES[IMAGE]), ("label", fields[1], SUFFIXES[TRAIN_IDS])):
        if not stays_inside(relative):
            return f"{name} {shown(relative)} leaves the folder it is relative to"
        frame = frame_of(relative, suffix)
        if frame is None:
            return f"{name} {shown(relative)}: expected <city>_<6 digits>_<6 digits>{suffix}"
        frames.append(frame)
    if frames[0] != frames[1]:
        return f"image of frame {shown(frames[0])} with label of frame {shown(frames[1])}"
    return ""
