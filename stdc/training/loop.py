"""The training loop: one optimizer step after another, exactly resumable.

    python workflow/scripts/train.py --config train.json … --devices 1     # in this process
    python workflow/scripts/train.py --config train.json … --devices 8     # a watcher and eight ranks, one per device

Nothing random is carried from step to step (`stdc.seeds`). So model, optimizer and a few numbers are the whole state,
and a run that was killed anywhere ends in the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import paddle

from stdc.arrays import Arrays
from stdc.errors import OutOfMemoryError, RunError, StoppedError
from stdc.machine import devices, ranks
from stdc.machine.heartbeat import EVALUATING, MEETING, SAVING, STARTING, TRAINING, WAITING, Heartbeat, Limits
from stdc.machine.sender import Sender
from stdc.nn.segmentor import Segmentor, build_segmentor
from stdc.nn.state import load_segmentor, state_arrays
from stdc.seeds import derived_seed
from stdc.stages import TrainStage
from stdc.training import checkpoints
from stdc.training.agreement import agreed_checkpoint
from stdc.training.best import BestWeights
from stdc.training.checkpoints import Checkpoint
from stdc.training.loader import Batch, WorkerDied, batches
from stdc.training.optimizer import optimizer_arrays, restore_optimizer
from stdc.training.pixels import Normalizer
from stdc.training.recorder import SilentRecorder, ValidationResult
from stdc.training.run_folder import RunFolder
from stdc.training.sampler import StepSampler
from stdc.training.schedule import learning_rate
from stdc.training.step import Pending, Step

#: Evaluates the network in its present state; every rank calls it, with the iterations done.
Evaluate = Callable[[paddle.nn.Layer, int], ValidationResult]

#: Signals to a whole job arrive within this time of each other.
_SIGNAL_SPREAD_S = 0.5

#: Share of the longest wait for a step that the loader waits for a sample.
_LOADER_SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class Process:
    """One process of a run.

    Attributes:
        folder: the run folder; this process or its watcher holds its lock.
        run_hash: names the run, see `stdc.training.identity`.
        seed: of the run.
        device: kind of device, see `stdc.machine.devices`.
        micro_batch: images per forward pass.
        portable_sync_batch_norm: see `stdc.training.step.Step`.
        workers: data worker processes of this rank.
        limits: how long it may give no sign of life.
        heartbeat: says what it is doing.
        rank, world_size: this process among those that share the global batch.
    """

    folder: RunFolder
    run_hash: str
    seed: int
    device: str
    micro_batch: int
    portable_sync_batch_norm: bool
    workers: int
    limits: Limits
    heartbeat: Heartbeat
    rank: int = 0
    world_size: int = 1


class Trainer:
    """One rank of one run.

    Args:
        process: which of which run, and where.
        stage: network, recipe, and what the loop does beside training.
        dataset: `dataset[key]` gives (image, train ids, …); `dataset.entries` names the frames.
        recorder: what the rank tells.
        evaluate: see `Evaluate`; None where evaluation during training is off.
        initialize: puts given weights into the new network; a checkpoint's replace them.
    """

    def __init__(
        self,
        process: Process,
        stage: TrainStage,
        dataset: Any,
        recorder: SilentRecorder,
        *,
        evaluate: Optional[Evaluate] = None,
        initialize: Callable[[Segmentor], None] = lambda _: None,
    ) -> None:
        self.process, self.stage, self.dataset, self.recorder, self.evaluate = (
            process,
            stage,
            dataset,
            recorder,
            evaluate,
        )
        paddle.seed(derived_seed("weights", process.seed))
        network = stage.network
        self.model = build_segmentor(
            network.backbone,
            pool_counts_padding=network.pool_counts_padding,
            upsample_by_products=stage.recipe.losses.upsampling == "products",
        )
        initialize(self.model)
        if process.world_size > 1:
            # The ranks' first collective: all of them have to be there.
            ranks.meet("model", process.limits.pause_s)
        self.send = Sender()
        self.normalizer = Normalizer(stage.recipe.augmentation.mean, stage.recipe.augmentation.std, self.send)
        self.step = Step(
            self.model,
            stage.recipe,
            seed=process.seed,
            rank=process.rank,
            world_size=process.world_size,
            portable_sync_batch_norm=process.portable_sync_batch_norm,
            micro_batch=process.micro_batch,
        )
        self.sampler = StepSampler(
            len(dataset), stage.recipe.schedule.global_batch, process.seed, process.rank, process.world_size
        )
        self.iteration = 0
        self.intervals = _Interval()
        self.best = BestWeights(process.folder.best)
        self.best_record: Optional[Dict[str, Any]] = None
        self._saved_iteration = 0
        self._pending: Optional[Pending] = None
        self._stepped = False

    def run(self) -> None:
        """Train from the newest valid checkpoint to the end.

        Raises:
            StoppedError: a signal asked for it; the state is saved.
            RunError: the loss is not finite, a data worker died, or the device's memory is too small.
            InputError: a sample is not readable.
            OSError: a checkpoint cannot be read or written.
        """
        self._resume()
        loop = self.stage.loop
        with ranks.StopRequest() as stop, self._loaded(stop) as loaded:
            for batch in loaded:
                self.process.heartbeat.beat(TRAINING, self.iteration)
                newest = self._step(batch, stop.requested())
                self.iteration += 1
                self.recorder.stepped(self.iteration, batch.wait_s)
                # The values of a step are read one step late, when the device has the next one to do.
                stopping = self._settle()
                self._pending = newest
                logging, saving = self._due(loop.log_interval), self._due(loop.save_interval)
                evaluating = self.evaluate is not None and self._due(loop.eval_interval)
                if logging or saving or evaluating or stopping:
                    stopping = self._settle() or stopping
                if logging:
                    self._log()
                if evaluating or saving or stopping:
                    self._pause(evaluating, saving or stopping)
                if stopping:
                    raise self._stopped()
                self.process.heartbeat.beat(WAITING, self.iteration)

    def result(self) -> Tuple[Arrays, Optional[Arrays]]:
        """(final weights, best weights or None where there was no evaluation)."""
        best = None if self.best_record is None else self.best.read(self.best_record)
        average = self.step.average
        return state_arrays(self.model) if average is None else average.model_arrays(), best

    # ---- one step

    @contextlib.contextmanager
    def _loaded(self, stop: ranks.StopRequest) -> Iterator[Iterator[Batch]]:
        """Batches from the present iteration on; closed on every way out, so that no data worker is left working."""
        process, iterations = self.process, self.stage.recipe.schedule.iterations
        keys = self.sampler.steps(self.iteration, iterations)
        # Shorter than the limit that ends the run, because the loader can name the worker and the frame it waits for.
        limit_s = _LOADER_SHARE * process.limits.step_s
        loading = batches(self.dataset, keys, process.workers, limit_s=limit_s, stop=stop.requested)
        with contextlib.closing(loading) as loaded:
            try:
                yield loaded
            except WorkerDied:
                # A scheduler may signal all processes of a job and kill a worker. With several ranks we cannot save
                # here: they may be at different steps.
                time.sleep(_SIGNAL_SPREAD_S)
                if stop.name is None or process.world_size > 1:
                    raise
                self._settle()
                self._pause(evaluating=False, saving=True)
                raise self._stopped() from None

    def _step(self, batch: Batch, stop: bool) -> Pending:
        # Queued while the device computes the step before.
        images, labels = self.normalizer(batch.images), self.send(batch.labels).astype("int64")
        try:
            pending = self.step(images, labels, self.iteration, stop)
        except Exception as error:
            if not devices.is_out_of_memory(error):
                raise
            # The run can begin again with fewer images per pass only while no step is done.
            kind = RunError if self._stepped else OutOfMemoryError
            raise kind(
                f"{self.process.micro_batch} images per forward pass do not fit into the memory of the device; "
                "a smaller hardware.micro_batch needs less"
            ) from error
        self._stepped = True
        return pending

    def _settle(self) -> bool:
        """Read what the newest unread step computed; whether the ranks agreed to stop after it."""
        pending, self._pending = self._pending, None
        if pending is None:
            return False
        losses, stopping = pending.read()
        if not all(math.isfinite(value) for value in losses.values()):
            raise self._diverged(losses, pending.iteration)
        self.intervals.add(losses)
        return stopping

    def _due(self, interval: int) -> bool:
        """Whether something done every `interval` iterations is to be done now; the last iteration always counts."""
        return self.iteration == self.stage.recipe.schedule.iterations or self.iteration % interval == 0

    def _log(self) -> None:
        rate = learning_rate(self.stage.recipe.schedule, self.iteration - 1)
        self.recorder.losses(self.iteration, rate, self.intervals.take())

    # ---- evaluating and saving

    def _pause(self, evaluating: bool, saving: bool) -> None:
        """Evaluate, save, or both; the other ranks wait until the one that writes has written."""
        arrays = self._arrays()
        if evaluating:
            self._evaluate(arrays[0])
        if saving:
            self._save(*arrays)
        self.process.heartbeat.beat(MEETING, self.iteration)
        ranks.meet(f"iteration-{self.iteration}", self.process.limits.pause_s)
        self.recorder.state("running")

    def _arrays(self) -> Tuple[Arrays, Arrays]:
        """Model and optimizer on the host. A finite loss can still lead to weights that are not: refused here."""
        model, optimizer = state_arrays(self.model), optimizer_arrays(self.step.optimizer, self.model)
        bad = {
            name: math.nan for arrays in (model, optimizer) for name, array in arrays.items() if not _is_finite(array)
        }
        if bad:
            raise self._diverged(bad, self.iteration - 1)
        return model, optimizer

    def _evaluate(self, model: Arrays) -> None:
        assert self.evaluate is not None
        self.process.heartbeat.beat(EVALUATING, self.iteration)
        self.recorder.state("evaluating")
        started = time.monotonic()
        average = self.step.average
        with contextlib.nullcontext() if average is None else average.in_place():
            found = self.evaluate(self.model, self.iteration)
        if self.process.rank > 0:
            return
        best = self.best_record
        if found.miou is not None and (best is None or found.miou > best["miou"]):
            kept = model if average is None else average.model_arrays()
            self.best_record = self.best.keep(kept, self.iteration, found.miou)
        self.recorder.evaluated(self.iteration, found, self.best_record, time.monotonic() - started)

    def _save(self, model: Arrays, optimizer: Arrays) -> None:
        # Batch norms are synchronized and gradients are averaged: every rank holds the same state, and one writes it.
        if self.process.rank > 0 or self.iteration == self._saved_iteration:
            return
        self.process.heartbeat.beat(SAVING, self.iteration)
        self.recorder.state("saving")
        scale, average = self.step.loss_scale, self.step.average
        saved = Checkpoint(
            iteration=self.iteration,
            model=model,
            optimizer=optimizer,
            state={
                **self.intervals.as_dict(),
                "best": self.best_record,
                "loss_scale": scale.as_dict() if scale else None,
            },
            history=self.recorder.history_text(),
            average=average.arrays() if average is not None else {},
        )
        folder = self.process.folder.checkpoints
        checkpoints.save(folder, saved, self.process.run_hash, self.stage.loop.keep_checkpoint_max)
        self._saved_iteration = self.iteration
        self.best.prune(folder)
        self.recorder.saved(self.iteration)

    def _resume(self) -> None:
        """Take up the newest checkpoint that all ranks can read."""
        process = self.process
        process.heartbeat.beat(STARTING, 0)
        found = agreed_checkpoint(
            process.folder.checkpoints,
            process.run_hash,
            log=self.recorder.log,
            limits=process.limits,
            check=self._check_best,
        )
        if found is not None:
            load_segmentor(self.model, found.model, str(process.folder.checkpoints))
            restore_optimizer(self.step.optimizer, self.model, found.optimizer)
            if self.step.average is not None:
                self.step.average.restore(found.average)
            if self.step.loss_scale is not None:
                self.step.loss_scale.restore(found.state["loss_scale"])
            self.iteration = self._saved_iteration = found.iteration
            self.intervals = _Interval(dict(found.state["sums"]), found.state["summed"])
            self.best_record = found.state["best"]
            done = "finished already" if found.iteration >= self.stage.recipe.schedule.iterations else "resuming"
            self.recorder.log(f"{done}: checkpoint of iteration {found.iteration} in {process.folder.checkpoints}")
        self.recorder.begin(self.iteration, found.history if found is not None else "", self.best_record)
        process.heartbeat.beat(WAITING, self.iteration)

    def _check_best(self, found: Checkpoint) -> None:
        if found.state["best"] is not None:
            self.best.read(found.state["best"])

    # ---- ends

    def _stopped(self) -> StoppedError:
        self.recorder.state("stopped")
        done = f"iteration {self.iteration} of {self.stage.recipe.schedule.iterations}"
        return StoppedError(f"stopped on request at {done}; the state is saved, start again to go on")

    def _diverged(self, values: Dict[str, float], step: int) -> RunError:
        frames = self._frames_of(step)
        self.recorder.diverged(step + 1, frames, values)
        bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        folder = self.process.folder
        return RunError(
            f"training diverged at iteration {step + 1}: {_some(bad)}. Nothing was saved since the last checkpoint in "
            f"{folder.checkpoints}; the batch's frames are in {folder.diverged} ({_some(frames)}). "
            f"A smaller train.base_lr or a warm-up may help{self._other_cure()}"
        )

    def _other_cure(self) -> str:
        # Paddle's page on flags: with this one, batch norm may overflow for some inputs.
        persistent = self.stage.recipe.kernels.cudnn_batchnorm_spatial_persistent
        on_cpu = devices.splits_sums(self.process.device)
        return ", or train.cudnn_batchnorm_spatial_persistent: false" if persistent and not on_cpu else ""

    def _frames_of(self, step: int) -> List[str]:
        """Frames of the global batch of one step."""
        entries = self.dataset.entries
        sampler = StepSampler(len(entries), self.stage.recipe.schedule.global_batch, self.process.seed)
        return [entries[key % len(entries)].frame for key in sampler.keys(step)]


class _Interval:
    """Loss parts since the last history line, summed, and how many steps they are of."""

    def __init__(self, sums: Optional[Dict[str, float]] = None, steps: int = 0) -> None:
        self._sums, self._steps = sums or {}, steps

    def add(self, losses: Dict[str, float]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def take(self) -> Dict[str, float]:
        """Their means; the next interval begins."""
        means = {name: total / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means

    def as_dict(self) -> Dict[str, Any]:
        """For a checkpoint."""
        return {"sums": self._sums, "summed": self._steps}


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:4]) + (", …" if len(words) > 4 else "")
