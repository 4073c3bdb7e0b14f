"""The training loop: one optimizer step after another, exactly resumable.

Nothing random is carried from step to step: the samples of a step, their augmentation and the generator of the step are
functions of (seed, step). So model, optimizer and a few numbers are the whole state, and a run that was killed anywhere
ends in the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import paddle

from stdc import files, recipe
from stdc.errors import RunError, StoppedError
from stdc.machine import devices, ranks
from stdc.nn.losses import segmentation_loss
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_backbone, load_segmentor, state_arrays
from stdc.nn.sync_batch_norm import convert_sync_batch_norm
from stdc.seeds import derived_seed
from stdc.training import checkpoints, identity
from stdc.training.best import BestWeights
from stdc.training.checkpoints import Checkpoint
from stdc.training.loader import Batch, WorkerLost, batches
from stdc.training.optimizer import build_optimizer, optimizer_arrays, restore_optimizer
from stdc.training.recorder import History, Progress, ScalarLog, keep_pictures
from stdc.training.sampler import StepSampler
from stdc.training.schedule import learning_rate
from stdc.weights import array_files

Arrays = Dict[str, np.ndarray]
Say = Callable[[str], None]
#: Evaluates the network in its present state; every rank calls it. Returns (mIoU, pictures by name).
Evaluate = Callable[[paddle.nn.Layer], Tuple[float, Dict[str, np.ndarray]]]


#: Signals to a whole job arrive within this time of each other.
_SIGNAL_SPREAD_S = 0.5


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """What steers the loop without changing a weight.

    Attributes:
        save_interval, log_interval: iterations.
        evaluate_every: iterations between evaluations; 0 for none. The last iteration is always evaluated.
        keep_checkpoint_max: newest checkpoints kept.
        workers: data worker processes of this rank.
        visualdl: write VisualDL records.
    """

    save_interval: int
    log_interval: int
    evaluate_every: int
    keep_checkpoint_max: int
    workers: int
    visualdl: bool


@dataclasses.dataclass
class _LoopState:
    """What a checkpoint carries beside the arrays."""

    iteration: int = 0
    #: Loss parts since the last history line, summed, and how many steps they are.
    sums: Dict[str, float] = dataclasses.field(default_factory=dict)
    summed: int = 0
    best: Optional[Dict[str, Any]] = None


class Trainer:
    """One rank of one run.

    Args:
        folder: the run folder; this process or its watcher holds its lock.
        run_hash: names the run, see `stdc.training.identity`.
        dataset: `dataset[key]` gives (image, train ids, …).
        network: which network.
        frames: names of the samples, in the order of the training list.
        evaluate: see `Evaluate`; None where evaluation during training is off.
        pretrained: file with the backbone's weights; None: random initialization.
    """

    def __init__(
        self,
        folder: Path,
        run_hash: str,
        train_recipe: recipe.TrainRecipe,
        network: recipe.Network,
        seed: int,
        settings: LoopSettings,
        dataset: Any,
        frames: Sequence[str],
        evaluate: Optional[Evaluate],
        device_kind: str,
        say: Say,
        pretrained: Optional[Path] = None,
    ) -> None:
        self.folder, self.run_hash = folder, run_hash
        self.recipe, self.seed, self.settings = train_recipe, seed, settings
        self.dataset, self.frames, self.evaluate, self.say = dataset, frames, evaluate, say
        self.rank, self.world_size = ranks.rank_and_world()
        self.device_kind = device_kind
        paddle.seed(derived_seed("weights", seed))
        self.model = build_segmentor(network.backbone, pool_counts_padding=network.pool_counts_padding)
        if pretrained is not None:
            load_backbone(self.model, array_files.read(pretrained), str(pretrained))
        if self.world_size > 1:
            convert_sync_batch_norm(self.model, portable=not devices.has_sync_batch_norm(device_kind))
        self.optimizer = build_optimizer(self.model, train_recipe.optimizer)
        self.best = BestWeights(folder)
        self.state = _LoopState()
        self._history_start = ""
        self._saved_iteration = 0

    def run(self) -> None:
        """Train from the newest valid checkpoint to the end.

        Raises:
            StoppedError: a signal asked for it; the state is saved.
            RunError: the loss is not finite.
            InputError: a sample is not readable.
        """
        self._resume()
        stepping: paddle.nn.Layer = self.model
        if self.world_size > 1:
            stepping = paddle.DataParallel(self.model)
        history = scalars = None
        if self.rank == 0:
            history = History(self.folder / "history.jsonl", self._history_start)
            scalars = ScalarLog(self.folder / "vdl" if self.settings.visualdl else None)
        try:
            with ranks.StopRequest() as stop:
                self._steps(stepping, history, scalars, stop)
        finally:
            if history is not None and scalars is not None:
                history.close()
                scalars.close()

    def _steps(
        self,
        stepping: paddle.nn.Layer,
        history: Optional[History],
        scalars: Optional[ScalarLog],
        stop: ranks.StopRequest,
    ) -> None:
        iterations = self.recipe.schedule.iterations
        sampler = StepSampler(
            len(self.frames), self.recipe.schedule.global_batch, self.seed, self.rank, self.world_size
        )
        keys = sampler.steps(self.state.iteration, iterations)
        progress = Progress(iterations, self.recipe.schedule.global_batch)
        owner = identity.semaphore_owner(self.run_hash)
        # Closed on every way out, so that no data worker is left working.
        with contextlib.closing(batches(self.dataset, keys, self.settings.workers, owner)) as loaded:
            try:
                self._loop(loaded, stepping, history, scalars, progress, stop)
            except WorkerLost:
                # A scheduler may signal every process of a job; a worker dies of it. Ranks could not agree on a step.
                time.sleep(_SIGNAL_SPREAD_S)
                if stop.name is None or self.world_size > 1:
                    raise
                self._save(history)
                raise self._stopped() from None

    def _loop(
        self,
        loaded: Iterator[Batch],
        stepping: paddle.nn.Layer,
        history: Optional[History],
        scalars: Optional[ScalarLog],
        progress: Progress,
        stop: ranks.StopRequest,
    ) -> None:
        for batch in loaded:
            step = self.state.iteration
            rate = learning_rate(self.recipe.schedule, step)
            parts, stopping = self._step(stepping, batch, rate, step, stop)
            self._check_finite(parts, step)
            self.state.iteration = step + 1
            for name, value in parts.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.state.summed += 1
            progress.step(batch.wait_s)
            if self._due(self.settings.log_interval):
                self._log(history, scalars, progress, rate)
            saving = stopping or self._due(self.settings.save_interval)
            evaluating = self.evaluate is not None and self._due(self.settings.evaluate_every)
            if saving or evaluating:
                self._check_weights(step)
            if evaluating:
                self._evaluate(history, scalars)
                progress.restart()
            if saving:
                self._save(history)
            if stopping:
                raise self._stopped()

    def _stopped(self) -> StoppedError:
        done = f"iteration {self.state.iteration} of {self.recipe.schedule.iterations}"
        return StoppedError(f"stopped on request at {done}; the state is saved, start again to go on")

    def _step(
        self, stepping: paddle.nn.Layer, batch: Batch, rate: float, step: int, stop: ranks.StopRequest
    ) -> Tuple[Dict[str, float], bool]:
        """One optimizer step; the loss parts averaged over ranks, and whether to stop after it."""
        stepping.train()
        # Nothing in the network draws random numbers today; this keeps it true that nothing needs saving.
        paddle.seed(derived_seed("step", self.seed, step, self.rank))
        self.optimizer.set_lr(rate)
        labels = paddle.to_tensor(batch.labels.astype(np.int64))
        loss, parts = segmentation_loss(stepping(paddle.to_tensor(batch.images)), labels, self.recipe.losses)
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        names = sorted(parts)
        # One transfer and one collective a step: the loss parts, and a stop that all ranks obey at the same step.
        asked = stop.name is not None if self.world_size == 1 else ranks.stop_requested()
        values = paddle.stack([parts[name].astype("float32").reshape([]) for name in names])
        values = paddle.concat([values, paddle.to_tensor([1.0 if asked else 0.0], "float32")])
        if self.world_size > 1:
            paddle.distributed.all_reduce(values)
        *means, stops = (values.numpy().astype(np.float64) / self.world_size).tolist()
        return dict(zip(names, means)), stops > 0.0

    def _due(self, interval: int) -> bool:
        """Whether something done every `interval` iterations is to be done now; the last iteration always counts."""
        return self.state.iteration == self.recipe.schedule.iterations or (
            interval > 0 and self.state.iteration % interval == 0
        )

    def _check_finite(self, parts: Dict[str, float], step: int) -> None:
        if not all(math.isfinite(value) for value in parts.values()):
            self._diverged(parts, step)

    def _check_weights(self, step: int) -> None:
        """A finite loss can still lead to weights that are not: they must not become the newest checkpoint."""
        arrays = {**state_arrays(self.model), **optimizer_arrays(self.optimizer, self.model)}
        bad = {name: math.nan for name, array in arrays.items() if not np.isfinite(array).all()}
        if bad:
            self._diverged(bad, step)

    def _diverged(self, parts: Dict[str, float], step: int) -> None:
        frames = self._frames_of(step)
        if self.rank == 0:
            shown = {name: value if math.isfinite(value) else str(value) for name, value in parts.items()}
            files.write_json(self.folder / "diverged.json", {"iteration": step + 1, "frames": frames, "losses": shown})
        bad = [f"{name} is {value}" for name, value in parts.items() if not math.isfinite(value)]
        culprits = ", ".join(bad[:4]) + (", …" if len(bad) > 4 else "")
        raise RunError(
            f"training diverged at iteration {step + 1}: {culprits}. Nothing was saved since the last checkpoint in "
            f"{self.folder / 'checkpoints'}; the batch's frames are in {self.folder / 'diverged.json'} "
            f"({', '.join(frames[:4])}{', …' if len(frames) > 4 else ''}). "
            "A smaller train.base_lr or a warm-up may help"
        )

    def _frames_of(self, step: int) -> List[str]:
        """Frames of the global batch of one step."""
        sampler = StepSampler(len(self.frames), self.recipe.schedule.global_batch, self.seed)
        return [self.frames[key % len(self.frames)] for key in sampler.keys(step)]

    def _log(self, history: Optional[History], scalars: Optional[ScalarLog], progress: Progress, rate: float) -> None:
        state = self.state
        means = {name: total / state.summed for name, total in state.sums.items()}
        state.sums, state.summed = {}, 0
        speed = progress.take()
        if history is None or scalars is None:
            return
        event = {"iteration": state.iteration, "lr": rate, **means, **speed}
        history.add(event)
        scalars.event(event)
        eta = progress.eta(state.iteration)
        files.write_json(
            self.folder / "status.json",
            {**event, "iterations": self.recipe.schedule.iterations, "eta": eta, "best": state.best},
        )
        best = f" | best mIoU {state.best['miou']:.4f}" if state.best else ""
        self.say(
            f"{state.iteration}/{self.recipe.schedule.iterations} | loss {means['loss']:.4f} | lr {rate:.6f} | "
            f"{speed['images_per_s']:.1f} images/s | waiting for data {speed['reader_wait_share']:.0%}{best} | "
            f"ETA {eta}"
        )

    def _evaluate(self, history: Optional[History], scalars: Optional[ScalarLog]) -> None:
        if self.evaluate is None:
            return
        self.model.eval()
        miou, pictures = self.evaluate(self.model)
        self.model.train()
        if history is None or scalars is None:
            return
        state = self.state
        event = {"iteration": state.iteration, "miou": miou}
        history.add(event)
        scalars.event(event)
        for name, picture in pictures.items():
            scalars.picture(name, picture, state.iteration)
        keep_pictures(self.folder, state.iteration, pictures)
        better = state.best is None or miou > state.best["miou"]
        if better:
            state.best = self.best.keep(state_arrays(self.model), state.iteration, miou)
        best = state.best or event
        self.say(
            f"{state.iteration}/{self.recipe.schedule.iterations} | validation mIoU {miou:.4f}"
            + (" (best so far)" if better else f" (best {best['miou']:.4f} at {best['iteration']})")
        )

    def _save(self, history: Optional[History]) -> None:
        if history is None:
            # Not rank 0. Batch norms are synchronized and gradients are summed, so every rank holds the same state.
            return
        state = self.state
        if state.iteration == self._saved_iteration:
            return
        folder = self.folder / "checkpoints"
        saved = Checkpoint(
            iteration=state.iteration,
            model=state_arrays(self.model),
            optimizer=optimizer_arrays(self.optimizer, self.model),
            state={"sums": state.sums, "summed": state.summed, "best": state.best},
            history=history.text(),
        )
        checkpoints.save(folder, saved, self.run_hash, self.settings.keep_checkpoint_max)
        self._saved_iteration = state.iteration
        self.best.prune(folder)

    def _resume(self) -> None:
        folder = self.folder / "checkpoints"
        report = self.say if self.rank == 0 else _silent
        found = checkpoints.load_newest(folder, self.run_hash, report, self._check_best)
        if found is None:
            return
        load_segmentor(self.model, found.model, str(folder))
        restore_optimizer(self.optimizer, self.model, found.optimizer)
        saved = found.state
        self.state = _LoopState(found.iteration, dict(saved["sums"]), saved["summed"], saved["best"])
        self._history_start = found.history
        self._saved_iteration = found.iteration
        if self.rank == 0:
            done = "finished already" if found.iteration >= self.recipe.schedule.iterations else "resuming"
            self.say(f"{done}: checkpoint of iteration {found.iteration} in {folder}")

    def _check_best(self, found: Checkpoint) -> None:
        if found.state["best"] is not None:
            self.best.check(found.state["best"])

    def result(self) -> Tuple[Arrays, Optional[Arrays]]:
        """(final weights, best weights or None where there was no evaluation)."""
        best = None if self.state.best is None else self.best.read(self.state.best)
        return state_arrays(self.model), best


def _silent(_: str) -> None:
    pass
