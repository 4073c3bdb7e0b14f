"""The manifest: which files a dataset consists of, written by check_dataset and read by every later stage."""

from __future__ import annotations

from typing import Any, Dict

from stdc.data.layout import LABEL_IDS, POLYGONS, SPLITS, frame_city, stays_inside
from stdc.errors import InputError
from stdc.files import PathLike, read_json

FORMAT = 1


def read_manifest(path: PathLike) -> Dict[str, Any]:
    """Read a manifest written by check_dataset.

    Raises:
        InputError: missing, unreadable, or no manifest of this format.
    """
    manifest = read_json(path)
    good = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    good = good and manifest.get("label_source") in (LABEL_IDS, POLYGONS)
    good = good and isinstance(manifest.get("frames"), list) and bool(manifest["frames"])
    if not (good and all(_is_entry(entry) for entry in manifest["frames"])):
        raise InputError(f"{path}: not a manifest of format {FORMAT}; make it again with check_dataset")
    return dict(manifest)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.get("split") not in SPLITS:
        return False
    frame, city = entry.get("frame"), entry.get("city")
    # Both become parts of paths that are written.
    if not isinstance(frame, str) or frame_city(frame) != city or "/" in frame or city == "..":
        return False
    files = [entry.get("image"), *(entry[key] for key in ("label", "instance") if entry.get(key) is not None)]
    return all(
        isinstance(file, dict)
        and isinstance(file.get("path"), str)
        and isinstance(file.get("sha256"), str)
        and stays_inside(file["path"])
        for file in files
    )
