"""VisualDL records of a run: live beside its checkpoints, and in one piece when it is finished."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from stdc import files
from stdc.errors import RunError
from stdc.training.history import read_history
from stdc.training.run_folder import RunFolder


class ScalarLog:
    """One record file of VisualDL.

    Args:
        folder: where it is written; records that are there go, and `events` are written first, so that the page shows
            one curve across resumes.
    """

    def __init__(self, folder: Path, events: Sequence[Mapping[str, Any]] = ()) -> None:
        # Imported only where records are asked for: it takes half a second and pulls in a web framework.
        from visualdl import LogWriter

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._writer = LogWriter(logdir=str(folder))
        for event in events:
            self.event(event)

    def event(self, event: Mapping[str, Any]) -> None:
        """The scalars of one history event, at the time it happened."""
        # VisualDL counts in milliseconds.
        walltime = round(event["time"] * 1000) if "time" in event else None
        for tag, value in _scalars(event):
            self._writer.add_scalar(tag=tag, value=value, step=event["iteration"], walltime=walltime)

    def picture(self, name: str, image: np.ndarray, iteration: int) -> None:
        """One RGB picture, (H, W, 3), uint8."""
        self._writer.add_image(tag=f"prediction/{name}", img=image, step=iteration)

    def close(self) -> None:
        """Write what is still in memory, and close the file."""
        self._writer.close()


def keep_pictures(folder: RunFolder, iteration: int, pictures: Mapping[str, np.ndarray]) -> None:
    """Keep an evaluation's pictures, RGB (H, W, 3) uint8, as PNG files in the run folder."""
    import cv2

    for name, picture in pictures.items():
        _, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
        files.write_bytes(folder.pictures / f"{iteration:08d}" / f"{name}.png", data.tobytes())


def write_visualdl(folder: RunFolder, output: Path) -> None:
    """Write the records of a finished run in one piece, from its history and the kept pictures.

    Raises:
        RunError: the records that were written do not hold what they should, as on a full disk: VisualDL writes from a
            thread of its own and loses the error. Nothing is left at `output` then.
    """
    import cv2

    temporary = files.temporary_path(output)
    events = read_history(folder.history)
    pictures = sorted(path for path in folder.pictures.glob("*/*.png") if not path.name.startswith("."))
    try:
        log = ScalarLog(temporary, events)
        for path in pictures:
            data = files.read_bytes(path)
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
            if picture is None:
                raise RunError(f"{path}: not a readable picture; delete it and start again")
            log.picture(path.stem, picture[..., ::-1], int(path.parent.name))
        log.close()
        _check(temporary, events, len(pictures))
        for path in sorted(temporary.iterdir()):
            with path.open("rb") as handle:
                files.fsync(handle)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(output, ignore_errors=True)
    temporary.replace(output)
    files.fsync_folder(output.parent)


def _scalars(event: Mapping[str, Any]) -> Iterator[Tuple[str, float]]:
    """Tag and value of the numbers of an event."""
    group = "evaluate" if "miou" in event else "train"
    for name, value in event.items():
        if name not in ("iteration", "time") and isinstance(value, (int, float)):
            yield f"{group}/{name}", value
    for name, value in (event.get("class_iou") or {}).items():
        if value is not None:
            yield f"class_iou/{name}", value


def _check(folder: Path, events: Sequence[Mapping[str, Any]], pictures: int) -> None:
    """Read the records back and count."""
    from visualdl import LogReader

    expected: Dict[str, int] = collections.Counter(tag for event in events for tag, _ in _scalars(event))
    found: Dict[str, int] = collections.Counter()
    found_pictures = 0
    records: List[Path] = sorted(folder.iterdir())
    for record in records:
        reader = LogReader(file_path=str(record))
        for tag in reader.get_tags().get("scalar", ()):
            found[tag] += len(reader.get_data("scalar", tag))
        for tag in reader.get_tags().get("image", ()):
            found_pictures += len(reader.get_data("image", tag))
    if dict(found) != dict(expected) or found_pictures != pictures:
        raise RunError(
            f"the VisualDL records are not whole: {sum(found.values())} of {sum(expected.values())} values and "
            f"{found_pictures} of {pictures} pictures; is the disk full? Start again to write them anew"
        )
