"""Pictures to predict: one file, a folder of them, or the frames of a video. No manifest is needed."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import Callable, Dict, Iterator, NamedTuple, Optional

import cv2
import numpy as np

from stdc.data.dataset import read_image
from stdc.data.layout import IMAGE, SUFFIXES, shown
from stdc.errors import InputError

#: What is taken for a picture in a folder; every other single file is tried as a video.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")

#: Level at which FFmpeg prints nothing: what is wrong with a video is told in our words.
_QUIET = "-8"
#: The level of OpenCV's own messages, for the same reason.
_SILENT = 0


class Picture(NamedTuple):
    """A picture and its name: a relative path without suffix, which names the files made from it."""

    name: str
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Source:
    """Pictures to come.

    Attributes:
        readers: each gives the next picture, or None at the end of a video that is shorter than it says.
        count: how many are expected.
        in_order: whether the readers must be called one after the other.
    """

    readers: Iterator[Callable[[], Optional[Picture]]]
    count: int
    in_order: bool


def open_source(path: Path) -> Source:
    """The pictures of a file or folder; they keep their sizes.

    Raises:
        InputError: nothing is there, a folder without pictures, two pictures of one name, or a file that is neither a
            picture nor a video. Readers raise it for a damaged picture.
    """
    if path.is_dir():
        found = _pictures_in(path)
    elif not path.is_file():
        raise InputError(f"{path}: no such file or folder; give a picture, a folder of pictures, or a video")
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        found = {_name(path.name): path}
    else:
        return _open_video(path)
    readers = (functools.partial(_read_picture, name, file) for name, file in sorted(found.items()))
    return Source(readers, len(found), in_order=False)


def _read_picture(name: str, path: Path) -> Optional[Picture]:
    return Picture(name, read_image(path))


def _pictures_in(folder: Path) -> Dict[str, Path]:
    found: Dict[str, Path] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            path = Path(parent) / file
            if file.startswith(".") or path.suffix.lower() not in PICTURE_SUFFIXES:
                continue
            name = _name(path.relative_to(folder).as_posix())
            if name in found:
                raise InputError(
                    f"{folder}: {shown(found[name].name)} and {shown(file)} would give predictions of one name; "
                    "rename one of them"
                )
            found[name] = path
    if not found:
        raise InputError(f"{folder}: no picture in it; expected files that end in {', '.join(PICTURE_SUFFIXES)}")
    return found


def _name(path: str) -> str:
    suffix = SUFFIXES[IMAGE]
    return path[: -len(suffix)] if path.endswith(suffix) else path[: path.rindex(".")]


def _open_video(path: Path) -> Source:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _QUIET)
    # Older versions of OpenCV have the switch at the top.
    set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    level = set_log_level(_SILENT)
    try:
        # One backend, so that no other takes the name for a pattern or a camera.
        video = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    finally:
        set_log_level(level)
    done, first = video.read() if video.isOpened() else (False, None)
    if not done:
        raise InputError(f"{path}: neither a picture nor a video that OpenCV can read")
    frames = [first]

    def read_frame(number: int) -> Optional[Picture]:
        done, frame = (True, frames.pop()) if frames else video.read()
        return Picture(f"{path.stem}_{number:06d}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)) if done else None

    count = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    return Source((functools.partial(read_frame, number) for number in range(count)), count, in_order=True)
