"""The manifest: which files a dataset consists of, written by check_dataset and read by every later stage."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any, Dict, Mapping

from stdc.data.layout import IMAGE, INSTANCE_IDS, LABEL_IDS, POLYGONS, SPLITS, SUFFIXES, frame_city, stays_inside
from stdc.errors import InputError, shown
from stdc.files import PathLike, read_json

FORMAT = 1

_HEX_DIGITS = set("0123456789abcdef")


def read_manifest(path: PathLike) -> Dict[str, Any]:
    """Read a manifest written by check_dataset (format: ARCHITECTURE.md).

    Raises:
        InputError: missing, unreadable, or no manifest of this format.
    """
    manifest = read_json(path)
    problem = _problem(manifest)
    if problem:
        raise InputError(
            f"{shown(path)}: not a manifest of format {FORMAT}; make it again with check_dataset ({problem})"
        )
    return dict(manifest)


def is_digest(value: Any) -> bool:
    """Whether a value is a SHA-256 as hex digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= _HEX_DIGITS


def _problem(manifest: Any) -> str:
    """The first thing that a manifest has not, or an empty text."""
    if not isinstance(manifest, dict):
        return "no JSON object"
    if type(manifest.get("format")) is not int or manifest["format"] != FORMAT:
        return f"format is {shown(repr(manifest.get('format')))[:40]}"
    if manifest.get("label_source") not in (LABEL_IDS, POLYGONS):
        return f"label_source is neither {LABEL_IDS} nor {POLYGONS}"
    frames = manifest.get("frames")
    if not isinstance(frames, list) or not frames:
        return "frames are missing"
    suffixes = {
        "image": SUFFIXES[IMAGE],
        "label": SUFFIXES[manifest["label_source"]],
        "instance": SUFFIXES[INSTANCE_IDS],
    }
    for number, frame in enumerate(frames):
        problem = _frame_problem(frame, suffixes)
        if problem:
            return f"frame {number}: {problem}"
    for what, keys in (
        ("frame", [(frame["split"], frame["frame"]) for frame in frames]),
        ("image", [frame["image"]["path"] for frame in frames]),
    ):
        if len(set(keys)) < len(keys):
            return f"{what} {shown(Counter(keys).most_common(1)[0][0])} occurs twice"
    return ""


def _frame_problem(frame: Any, suffixes: Mapping[str, str]) -> str:
    if not isinstance(frame, dict) or frame.get("split") not in SPLITS:
        return "split is missing or unknown"
    name, city = frame.get("frame"), frame.get("city")
    # City and frame become parts of paths that are written, so they must be plain names.
    if not isinstance(name, str) or frame_city(name) != city or "/" in name or "\0" in name or city in (".", ".."):
        return "frame and city do not belong together"
    size = frame.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(length) is int and length > 0 for length in size)):
        return "size is not [height, width]"
    for key, suffix in suffixes.items():
        file = frame.get(key)
        if file is None and key != "image":
            continue
        if not isinstance(file, dict) or not isinstance(file.get("path"), str) or not is_digest(file.get("sha256")):
            return f"{key} has no path or no SHA-256"
        if not stays_inside(file["path"]):
            return f"{key} leaves the dataset root"
        if PurePosixPath(file["path"]).name != name + suffix:
            return f"{key} is not the file of its frame"
    return ""
