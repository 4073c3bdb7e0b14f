"""Predictions as the Cityscapes server wants them: one PNG of label ids per frame, checked and zipped.

The server runs the official ``evalPixelLevelSemanticLabeling.py``, which finds the prediction of a frame by the pattern
``<city>_<sequence>_<frame>*.png`` anywhere below the results, stops at a frame with none or two, and reads the regular
label ids, not the train ids.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Callable, List, Mapping, Sequence

import numpy as np

from stdc import files
from stdc.data import png
from stdc.data.frame_checks import decode_gray
from stdc.data.labels import TRAIN_LABELS
from stdc.data.layout import frame_of, shown
from stdc.errors import InputError, InputErrors
from stdc.prediction.prediction_files import PREDICTION_SUFFIX

#: Zip archives know no time before this; a fixed one makes equal predictions give equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

_VALUES_SHOWN = 5


def find_problems(
    folder: Path, frames: Sequence[Mapping[str, Any]], progress: Callable[[], None] = lambda: None
) -> List[str]:
    """Everything that the server would refuse or count as wrong, one line each.

    Args:
        folder: predictions, directly in it.
        frames: `frame` and `size` (height, width) of each frame that must be predicted, as in the manifest.
        progress: called after each frame.
    """
    names = {path.name for path in folder.iterdir() if path.suffix == ".png"}
    wanted = {f"{entry['frame']}{PREDICTION_SUFFIX}": entry for entry in frames}
    problems = [f"{shown(name)}: {_unexpected(name)}" for name in sorted(names - set(wanted))]
    for name, entry in sorted(wanted.items()):
        if name in names:
            problems += [f"{name}: {problem}" for problem in _file_problems(folder / name, entry["size"])]
        else:
            problems.append(f"{name}: missing")
        progress()
    return problems


def write_submission(
    folder: Path, frames: Sequence[Mapping[str, Any]], output: Path, progress: Callable[[], None] = lambda: None
) -> int:
    """Check predictions and zip them; equal predictions give equal bytes. Returns the number of files.

    Raises:
        InputError: there is no such folder, or nothing to predict.
        InputErrors: lists every problem; nothing is written.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of predictions; make it with predict.py")
    if not frames:
        raise InputError("the manifest has no frame of this split; is it the manifest of the full dataset?")
    problems = find_problems(folder, frames, progress)
    if problems:
        raise InputErrors(f"{folder}: {len(problems)} problems in predictions of {len(frames)} frames", problems)
    with files.atomic_path(output) as temporary, zipfile.ZipFile(str(temporary), "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(f"{entry['frame']}{PREDICTION_SUFFIX}" for entry in frames):
            member = zipfile.ZipInfo(name, _ZIP_TIME)
            member.external_attr = 0o644 << 16
            # Stored, not deflated: PNG files are compressed already.
            archive.writestr(member, files.read_bytes(folder / name))
    return len(frames)


def _unexpected(name: str) -> str:
    if frame_of(name, PREDICTION_SUFFIX) is None:
        return f"not the name of a prediction, <city>_<6 digits>_<6 digits>{PREDICTION_SUFFIX}; move it elsewhere"
    return "no such frame in this split; move it elsewhere"


def _file_problems(path: Path, size: Sequence[int]) -> List[str]:
    try:
        data = files.read_bytes(path)
    except InputError as error:
        return [str(error)]
    try:
        header = png.check_png(data)
    except png.PngError as error:
        return [str(error)]
    problems = []
    if (header.height, header.width) != tuple(size):
        problems.append(f"{header.width}x{header.height}, expected {size[1]}x{size[0]} as its image (width x height)")
    if (header.color_type, header.bit_depth) != (png.GRAY, 8):
        problems.append(f"{header.kind} PNG, expected 8-bit gray, each pixel a label id")
        return problems
    wrong = sorted(set(np.unique(decode_gray(data)).tolist()) - {label.id for label in TRAIN_LABELS})
    if wrong:
        listed = ", ".join(str(value) for value in wrong[:_VALUES_SHOWN]) + (
            ", …" if len(wrong) > _VALUES_SHOWN else ""
        )
        problems.append(f"holds {listed}; expected ids of trained classes only (7 to 33). Are these train ids?")
    return problems
