"""What a training run tells: the history file, VisualDL, the progress line, the status file."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from stdc import files
from stdc.units import clock_text


class History:
    """`history.jsonl` of a run: one JSON line an event, in order, without gaps or repeats over resumes.

    Args:
        path: the file; what a killed process wrote beyond its last checkpoint goes.
        start: the history up to the checkpoint, as `text` gave it then.
    """

    def __init__(self, path: Path, start: str = "") -> None:
        self.path = path
        files.write_text(path, start)
        self._handle = path.open("a", encoding="utf-8")

    def add(self, event: Mapping[str, Any]) -> None:
        """Append one event and hand it to the operating system at once."""
        try:
            self._handle.write(_line(event))
            self._handle.flush()
        except OSError as error:
            error.filename = str(self.path)
            raise

    def text(self) -> str:
        """All of it, for a checkpoint."""
        return self.path.read_text(encoding="utf-8")

    def close(self) -> None:
        self._handle.close()


def read_history(path: Path) -> List[Dict[str, Any]]:
    """All whole lines; one that a killed process left half-written is dropped."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, sort_keys=True, allow_nan=False) + "\n"


class ScalarLog:
    """VisualDL records of a run; does nothing where they are switched off."""

    def __init__(self, folder: Optional[Path]) -> None:
        self._writer = None
        if folder is not None:
            # Takes half a second, and pulls in a web framework: only where it is asked for.
            from visualdl import LogWriter

            folder.mkdir(parents=True, exist_ok=True)
            self._writer = LogWriter(logdir=str(folder))

    def event(self, event: Mapping[str, Any]) -> None:
        """The scalars of one history event."""
        if self._writer is None:
            return
        group = "evaluate" if "miou" in event else "train"
        for name, value in event.items():
            if name != "iteration" and isinstance(value, (int, float)):
                self._writer.add_scalar(tag=f"{group}/{name}", value=value, step=event["iteration"])

    def picture(self, name: str, image: np.ndarray, iteration: int) -> None:
        """One RGB picture, (H, W, 3), uint8."""
        if self._writer is not None:
            self._writer.add_image(tag=f"prediction/{name}", img=image, step=iteration)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def keep_pictures(run_folder: Path, iteration: int, pictures: Mapping[str, np.ndarray]) -> None:
    """Keep an evaluation's pictures, RGB (H, W, 3) uint8, as PNG files below the run folder."""
    import cv2

    for name, picture in pictures.items():
        _, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
        files.write_bytes(run_folder / "pictures" / f"{iteration:08d}" / f"{name}.png", data.tobytes())


def write_visualdl(run_folder: Path, output: Path) -> None:
    """Write the records of a finished run in one piece.

    The live records beside the checkpoints have a file for each time the run was resumed, with repeats; these come from
    the history and the kept pictures.
    """
    import cv2

    temporary = output.with_name(f".tmp-{os.getpid()}-{output.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    log = ScalarLog(temporary)
    for event in read_history(run_folder / "history.jsonl"):
        log.event(event)
    for path in sorted((run_folder / "pictures").glob("*/*.png")):
        picture = cv2.imread(str(path))
        if picture is not None:
            log.picture(path.stem, picture[..., ::-1], int(path.parent.name))
    log.close()
    shutil.rmtree(output, ignore_errors=True)
    temporary.replace(output)


class Progress:
    """Speed over the last interval and the time to go.

    Args:
        iterations: steps of the whole run.
        images_per_step: the global batch.
    """

    def __init__(self, iterations: int, images_per_step: int) -> None:
        self.iterations = iterations
        self.images_per_step = images_per_step
        self._started = time.perf_counter()
        self._steps = 0
        self._wait_s = 0.0
        self._s_per_step: Optional[float] = None

    def step(self, wait_s: float) -> None:
        """Count one step, of which `wait_s` seconds were spent waiting for data."""
        self._steps += 1
        self._wait_s += wait_s

    def take(self) -> Dict[str, float]:
        """{"images_per_s", "reader_wait_share"} since the last call."""
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        speed = {
            "images_per_s": round(self._steps * self.images_per_step / elapsed, 3),
            "reader_wait_share": round(min(self._wait_s / elapsed, 1.0), 4),
        }
        if self._steps:
            self._s_per_step = elapsed / self._steps
        self.restart()
        return speed

    def restart(self) -> None:
        """Leave out what happened since the last step: an evaluation is not training time."""
        self._started, self._steps, self._wait_s = time.perf_counter(), 0, 0.0

    def eta(self, iteration: int) -> str:
        """Time to the end at the last interval's speed, as h:mm:ss."""
        if self._s_per_step is None:
            return "?"
        return clock_text((self.iterations - iteration) * self._s_per_step)
