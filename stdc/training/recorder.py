"""What a training run tells while it is at work: history, VisualDL, pictures, lines of progress, status, segments.

One rank of a run records, the others are silent: `SilentRecorder` has the same methods and does nothing.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy as np

from stdc import files
from stdc.progress import Log
from stdc.recipe import Loop, Schedule
from stdc.training.history import History, read_history
from stdc.training.run_folder import RunFolder, now
from stdc.training.visualdl import ScalarLog, keep_pictures
from stdc.units import clock_text

#: Seconds between lines of progress: no oftener than the first, no rarer than the second.
_LINE_LEAST_S = 15.0
_LINE_MOST_S = 60.0
#: Of the history, what the status tells the newest of.
_FIGURES = ("loss", "lr", "images_per_s", "reader_wait_share", "miou")

#: Weight of the newest interval in the smoothed time of a step.
_NEWEST = 0.3


@dataclasses.dataclass(frozen=True)
class ValidationResult:
    """What an evaluation during training found.

    Attributes:
        miou: a fraction; None where the validation images have not one labeled pixel.
        class_iou: by class name; None where a class does not occur.
        pictures: by frame, RGB (H, W, 3), uint8.
    """

    miou: Optional[float]
    class_iou: Mapping[str, Optional[float]]
    pictures: Mapping[str, np.ndarray]


class SilentRecorder:
    """The recorder of a rank that tells nothing."""

    def begin(self, iteration: int, history: str, best: Optional[Mapping[str, Any]]) -> None:
        """Go on after `iteration` steps, with the history up to there."""

    def log(self, line: str) -> None:
        """A line for the person who waits."""

    def state(self, state: str) -> None:
        """What the run does now, see `RunFolder.write_status`."""

    def stepped(self, iteration: int, wait_s: float) -> None:
        """One optimizer step is done, of which `wait_s` seconds went by waiting for data."""

    def losses(self, iteration: int, rate: float, means: Mapping[str, float]) -> None:
        """An interval is over: the learning rate of its last step, and the means of its loss parts."""

    def evaluated(
        self, iteration: int, found: ValidationResult, best: Optional[Mapping[str, Any]], seconds: float
    ) -> None:
        """An evaluation is done; `best` is the record of the best weights so far, this one included."""

    def saved(self, iteration: int) -> None:
        """A checkpoint is complete."""

    def diverged(self, iteration: int, frames: List[str], losses: Mapping[str, float]) -> None:
        """The loss or a weight is not finite after the step `iteration`."""

    def history_text(self) -> str:
        """The history so far, for a checkpoint."""
        return ""

    def close(self) -> None:
        """Nothing more will be told."""


class Recorder(SilentRecorder):
    """Records a run in its folder.

    Args:
        folder: the run folder, whose lock this process or its watcher holds.
        schedule, loop: parts of the recipe.
        log: receives one line at a time for the person who waits.
        names: what the status tells of the run in every state: its name, its seed, and the like.
        segment: what the provenance tells of this start of the run: commit, machine, device, command.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        schedule: Schedule,
        loop: Loop,
        log: Log,
        names: Mapping[str, Any],
        segment: Mapping[str, Any],
    ) -> None:
        self.folder, self.schedule, self.loop, self._log = folder, schedule, loop, log
        self._names, self._segment = dict(names), dict(segment)
        self._speed = Speedometer(schedule, loop)
        self._known: Dict[str, Any] = {}
        self._history: Optional[History] = None
        self._scalars: Optional[ScalarLog] = None
        self._segments: List[Dict[str, Any]] = []
        self._last_line = time.monotonic()
        self._first_step = True

    def begin(self, iteration: int, history: str, best: Optional[Mapping[str, Any]]) -> None:
        self._history = History(self.folder.history, history)
        events = read_history(self.folder.history)
        if self.loop.visualdl:
            self._scalars = ScalarLog(self.folder.vdl, events)
        segments = self.folder.read_segments()
        if not segments and self.folder.segments.exists():
            self.log(f"{self.folder.segments}: not readable; the provenance begins with this start of the run")
        self._segments = segments_until(segments, iteration)
        self._segments.append(
            {
                **self._segment,
                "from_iteration": iteration,
                "to_iteration": iteration,
                "started": now(),
                "finished": now(),
            }
        )
        self._write_segments(iteration)
        # What was found before this start: a run that goes on, or was finished already, is told with its figures.
        before = {key: event[key] for event in events for key in _FIGURES if key in event}
        self._known = {**before, "iteration": iteration, "iterations": self.schedule.iterations, "best": best}
        self.state("running")

    def log(self, line: str) -> None:
        self._log(line)
        self._last_line = time.monotonic()

    def state(self, state: str) -> None:
        self.folder.write_status(state, **self._names, **self._known)

    def stepped(self, iteration: int, wait_s: float) -> None:
        self._speed.step(wait_s)
        self._known["iteration"] = iteration
        silent_s = time.monotonic() - self._last_line
        if self._first_step:
            self._first_step = False
            self.log(f"{iteration}/{self.schedule.iterations} | first step after {silent_s:.1f} s")
        elif silent_s >= _LINE_MOST_S:
            self.log(f"{iteration}/{self.schedule.iterations} | ETA {clock_text(self._speed.eta_s(iteration))}")
            self.state("running")

    def losses(self, iteration: int, rate: float, means: Mapping[str, float]) -> None:
        speed = self._speed.take()
        eta_s = self._speed.eta_s(iteration)
        event = {"iteration": iteration, "lr": rate, **means, **speed}
        self._add(event)
        self._known.update(event, eta_s=round(eta_s))
        self.state("running")
        if time.monotonic() - self._last_line < _LINE_LEAST_S and iteration < self.schedule.iterations:
            return
        best = self._known["best"]
        self.log(
            f"{iteration}/{self.schedule.iterations} | loss {means['loss']:.4f} | lr {rate:.6f} | "
            f"{speed['images_per_s']:.1f} images/s | waiting for data {100 * speed['reader_wait_share']:.0f} %"
            f"{f' | best mIoU {_percent(best[_MIOU])}' if best else ''} | ETA {clock_text(eta_s)}"
        )

    def evaluated(
        self, iteration: int, found: ValidationResult, best: Optional[Mapping[str, Any]], seconds: float
    ) -> None:
        self._speed.paused(seconds)
        self._add({"iteration": iteration, "miou": found.miou, "class_iou": dict(found.class_iou)})
        if self._scalars is not None:
            for name, picture in found.pictures.items():
                self._scalars.picture(name, picture, iteration)
        keep_pictures(self.folder, iteration, found.pictures)
        self._known.update(miou=found.miou, best=best)
        if best is None:
            compared = ""
        elif best["iteration"] == iteration:
            compared = " (best so far)"
        else:
            compared = f" (best {_percent(best[_MIOU])} at {best['iteration']})"
        self.log(f"{iteration}/{self.schedule.iterations} | validation mIoU {_percent(found.miou)}{compared}")

    def saved(self, iteration: int) -> None:
        self._speed.restart()
        self._write_segments(iteration)

    def diverged(self, iteration: int, frames: List[str], losses: Mapping[str, float]) -> None:
        shown = {name: value if np.isfinite(value) else str(value) for name, value in losses.items()}
        files.write_json(self.folder.diverged, {"iteration": iteration, "frames": frames, "losses": shown})
        self.state("diverged")

    def history_text(self) -> str:
        return self._history.text() if self._history is not None else ""

    def close(self) -> None:
        if self._history is not None:
            self._history.close()
        if self._scalars is not None:
            self._scalars.close()

    def _add(self, event: Mapping[str, Any]) -> None:
        timed = {**event, "time": round(time.time(), 1)}
        if self._history is not None:
            self._history.add(timed)
        if self._scalars is not None:
            self._scalars.event(timed)

    def _write_segments(self, iteration: int) -> None:
        self._segments[-1].update(to_iteration=iteration, finished=now())
        files.write_json(self.folder.segments, self._segments)


#: Key of the score in the record of the best weights.
_MIOU = "miou"


def segments_until(segments: List[Dict[str, Any]], iteration: int) -> List[Dict[str, Any]]:
    """The segments of a run that led to the checkpoint of `iteration`; steps done beyond it were lost."""
    kept = []
    for segment in segments:
        if segment["from_iteration"] < iteration:
            kept.append({**segment, "to_iteration": min(segment["to_iteration"], iteration)})
    # A process that was killed after its checkpoint and before this file was written did more than the file says.
    if kept:
        kept[-1]["to_iteration"] = iteration
    return kept


class Speedometer:
    """Speed over the last interval and the time to go, evaluations included.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, schedule: Schedule, loop: Loop, clock: Callable[[], float] = time.perf_counter) -> None:
        self.schedule, self.loop, self._clock = schedule, loop, clock
        self._started = clock()
        self._steps = 0
        self._wait_s = 0.0
        self._s_per_step: Optional[float] = None
        self._evaluations_s: List[float] = []

    def step(self, wait_s: float) -> None:
        """Count one step, of which `wait_s` seconds were spent waiting for data."""
        self._steps += 1
        self._wait_s += wait_s

    def take(self) -> Dict[str, float]:
        """{"images_per_s", "reader_wait_share"} since the last call."""
        elapsed = max(self._clock() - self._started, 1e-9)
        speed = {
            "images_per_s": round(self._steps * self.schedule.global_batch / elapsed, 3),
            "reader_wait_share": round(min(self._wait_s / elapsed, 1.0), 4),
        }
        if self._steps:
            newest = elapsed / self._steps
            before = newest if self._s_per_step is None else self._s_per_step
            self._s_per_step = _NEWEST * newest + (1.0 - _NEWEST) * before
        self.restart()
        return speed

    def paused(self, seconds: float) -> None:
        """An evaluation took this long; it is not training time."""
        self._evaluations_s.append(seconds)
        self.restart()

    def restart(self) -> None:
        """Leave out what happened since the last step."""
        self._started, self._steps, self._wait_s = self._clock(), 0, 0.0

    def eta_s(self, iteration: int) -> float:
        """Seconds to the end: steps at their smoothed time, evaluations at the mean of those so far."""
        elapsed = self._clock() - self._started
        s_per_step = self._s_per_step
        if s_per_step is None:
            s_per_step = elapsed / self._steps if self._steps else 0.0
        steps = (self.schedule.iterations - iteration) * s_per_step
        if not self.loop.evaluate or not self._evaluations_s:
            return steps
        interval = self.loop.eval_interval
        left = -(-self.schedule.iterations // interval) - iteration // interval
        return steps + left * sum(self._evaluations_s) / len(self._evaluations_s)


def _percent(fraction: Optional[float]) -> str:
    return "none, no labeled pixel" if fraction is None else f"{100 * fraction:.2f} %"
