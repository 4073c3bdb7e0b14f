"""A training job: from files to files, around the loop in `stdc.training.loop`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from stdc import files, provenance
from stdc.data.convert import labels_digest
from stdc.data.dataset import EvalDataset, TrainDataset
from stdc.data.entries import read_entries, read_prepared
from stdc.data.entry import Entry
from stdc.data.frame_cache import FrameCache, open_frame_cache
from stdc.data.transforms import check_crop
from stdc.errors import InputError, OutOfMemoryError, RunError, StdcError, StoppedError, UnusableKernelError
from stdc.machine import devices, leases, ranks, watcher
from stdc.machine.heartbeat import STARTING, Heartbeat, Limits, guarded
from stdc.machine.lifetime import begin_again
from stdc.progress import Log
from stdc.stages import TrainStage
from stdc.training import finished, identity
from stdc.training.job_settings import Hardware, Inputs, Outputs
from stdc.training.recorder import Recorder, SilentRecorder
from stdc.training.run_folder import RunFolder, now
from stdc.training.visualdl import write_visualdl
from stdc.weights import array_files

if TYPE_CHECKING:
    from stdc.nn.segmentor import Segmentor
    from stdc.training.loop import Evaluate, Trainer


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """What a process of the job knows once its inputs are read and Paddle is imported.

    Attributes:
        start: what the weights to start from are, for the provenance; None for random ones.
    """

    train_entries: List[Entry]
    val_entries: List[Entry]
    micro_batch: int
    portable_sync_batch_norm: bool
    identity: Dict[str, Any]
    run_hash: str
    folder: RunFolder
    cache: Optional[FrameCache]
    start: Optional[Dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class TrainJob:
    """One seed of one recipe.

    Attributes:
        runs: folder of run folders.
        limits: how long a process may give no sign of life.
        log: receives one line at a time for the person who waits.
    """

    stage: TrainStage
    inputs: Inputs
    outputs: Outputs
    hardware: Hardware
    seed: int
    runs: Path
    limits: Limits
    log: Log

    def run(self, argv: List[str]) -> None:
        """Train and write the outputs; on several devices, in ranks.

        Where the first step does not fit into the memory of the device, the process begins again with half as many
        images per forward pass; where Paddle's synchronized batch norm computes wrongly, with ours. Either is another
        run.

        Args:
            argv: program and arguments that start the same job; ranks are started with them.
        Raises:
            InputError: the recipe, the lists or the hardware do not fit together.
            RunError, StoppedError, OSError: see `stdc.training.loop` and `watcher.run_ranks`.
        """
        if ranks.in_rank():
            with ranks.reporting_rank():
                heartbeat = ranks.heartbeat()
                heartbeat.beat(STARTING, 0)
                self._train(self._prepare(), heartbeat)
            return
        prepared = self._prepare()
        # The run folder is the better source. Where it was deleted, the outputs of this very run may still be in place.
        alone = self.hardware.nodes.count == 1
        if (
            alone
            and not prepared.folder.checkpoints.is_dir()
            and finished.restore(self.outputs.paths(), prepared.run_hash)
        ):
            self.log(f"finished already, as run {prepared.run_hash[:16]}: its outputs are unchanged and in place again")
            return
        try:
            self._watch(prepared, argv)
        except OutOfMemoryError as error:
            if prepared.micro_batch == 1:
                raise RunError(f"{error}; one is the least") from None
            half = prepared.micro_batch // 2
            self.log(f"{error}; beginning again with {half}: batch norm and hard pixels then see {half} at a time")
            begin_again([*ranks.without_option(argv, "--micro-batch"), "--micro-batch", str(half)])
        except UnusableKernelError as error:
            self.log(f"{error}; beginning again with collectives of ours in its place")
            begin_again([*ranks.without_option(argv, "--sync-batch-norm"), "--sync-batch-norm", "portable"])

    def _prepare(self) -> _Prepared:
        """Read what is small, refuse what does not fit, and name the run."""
        stage, inputs, hardware = self.stage, self.inputs, self.hardware
        device_batch = stage.recipe.schedule.per_device_batch(hardware.world_size)
        wanted = device_batch if hardware.micro_batch is None else hardware.micro_batch
        # The largest part of an even division: what is named twice must not be two runs.
        micro_batch = -(-device_batch // stage.recipe.schedule.passes(hardware.world_size, wanted))
        # Read now, because it would be too late to find it unreadable after the last step.
        start = None if inputs.start_record is None else files.read_json(inputs.start_record)
        if start is not None and not isinstance(start, dict):
            raise InputError(f"{inputs.start_record}: what fetch_weights leaves is expected; run it again")
        # Before anything slow: a crop that does not fit is found here, not at the first image that is too small.
        dataset = read_prepared(inputs.dataset, inputs.labels, inputs.manifest, inputs.index)
        frames = dataset.manifest["frames"]
        for height, width in sorted({tuple(frame["size"]) for frame in frames if frame["split"] == "train"}):
            check_crop(stage.recipe.augmentation, height, width)
        train_entries = read_entries(inputs.train_list, "train", dataset, stage.separator)
        val_entries = read_entries(inputs.val_list, "val", dataset, stage.separator)
        devices.check_amp(hardware.device, stage.recipe.kernels.amp)
        devices.prepare(hardware.device, hardware.threads, devices.kernel_flags(stage.recipe.kernels))
        unequal = stage.recipe.schedule.global_batch % hardware.world_size > 0
        portable = hardware.portable_sync_batch_norm or unequal or not devices.has_sync_batch_norm(hardware.device)
        made_of = identity.run_identity(
            stage,
            seed=self.seed,
            world_size=hardware.world_size,
            micro_batch=micro_batch,
            portable_sync_batch_norm=portable,
            threads=hardware.threads,
            device=hardware.device,
            inputs={
                "manifest": files.sha256_file(inputs.manifest),
                "labels": labels_digest(inputs.index),
                "train_list": files.sha256_file(inputs.train_list),
                # The validation images choose the best weights.
                "val_list": files.sha256_file(inputs.val_list) if stage.loop.evaluate else None,
                "backbone": files.sha256_file(inputs.backbone) if inputs.backbone else None,
            },
        )
        run_hash = identity.run_hash(made_of)
        folder = RunFolder(self.runs / run_hash[:16])
        cache = None
        if hardware.frame_cache is not None:
            sizes = [tuple(frame["size"]) for frame in frames if frame["split"] == "train"]
            manifest_sha256 = made_of["inputs"]["manifest"]
            cache = open_frame_cache(Path(hardware.frame_cache), manifest_sha256, sizes, hardware.frame_cache_gb)
        return _Prepared(train_entries, val_entries, micro_batch, portable, made_of, run_hash, folder, cache, start)

    def _watch(self, prepared: _Prepared, argv: List[str]) -> None:
        """Hold the run folder while this process or its ranks train; on several nodes, node 0 holds it for all."""
        folder, hardware = prepared.folder, self.hardware
        if hardware.nodes.number > 0:
            self._run_ranks(folder, argv)
            return
        with folder.locked(self.log):
            folder.tidy({"run_hash": prepared.run_hash, **prepared.identity})
            for output in (self.outputs.model, self.outputs.history):
                files.remove_temporaries(output.parent)
            if prepared.cache is not None:
                prepared.cache.tidy()
            self.log(f"run folder {folder.path}")
            folder.write_status("starting", **self._names())
            try:
                if hardware.world_size == 1:
                    with guarded(folder.heartbeat, self.limits, self.log):
                        self._train(prepared, Heartbeat(folder.heartbeat))
                else:
                    self._run_ranks(folder, argv)
            except StoppedError:
                raise
            except BaseException as error:
                if not folder.diverged.exists():
                    shown = str(error) if isinstance(error, (StdcError, OSError)) else type(error).__name__
                    folder.write_status("failed", **self._names(), message=shown)
                raise

    def _run_ranks(self, folder: RunFolder, argv: List[str]) -> None:
        hardware = self.hardware
        devices.check_count(hardware.device, hardware.devices)
        watcher.run_ranks(
            # Only the watcher writes the log file: ranks would overwrite each other's lines.
            ranks.without_option(argv, "--log"),
            device=hardware.device,
            world_size=hardware.world_size,
            folder=folder.ranks,
            limits=self.limits,
            log=self.log,
            nodes=hardware.nodes,
        )

    def _names(self) -> Dict[str, Any]:
        """What the status tells of the run in every state. The outputs lie in `<name>/seed<k>/`."""
        return {"name": self.outputs.model.absolute().parent.parent.name, "seed": self.seed}

    def _train(self, prepared: _Prepared, heartbeat: Heartbeat) -> None:
        """What each rank does."""
        from stdc.training.loop import Process, Trainer

        hardware, stage = self.hardware, self.stage
        devices.select(hardware.device)
        rank, world_size = ranks.rank_and_world()
        if world_size > 1:
            ranks.meet("paddle", self.limits.pause_s)
            devices.join_ranks(hardware.device)
            if not prepared.portable_sync_batch_norm:
                self._try_sync_batch_norm()
        recorder = SilentRecorder()
        if rank == 0:
            recorder = Recorder(
                prepared.folder,
                schedule=stage.recipe.schedule,
                loop=stage.loop,
                log=ranks.tell if ranks.in_rank() else self.log,
                names=self._names(),
                segment=self._segment(),
            )
        trainer = Trainer(
            Process(
                folder=prepared.folder,
                run_hash=prepared.run_hash,
                seed=self.seed,
                device=hardware.device,
                micro_batch=prepared.micro_batch,
                portable_sync_batch_norm=prepared.portable_sync_batch_norm,
                workers=hardware.workers,
                limits=self.limits,
                heartbeat=heartbeat,
                rank=rank,
                world_size=world_size,
            ),
            stage,
            TrainDataset(prepared.train_entries, stage.recipe.augmentation, self.seed, prepared.cache),
            recorder,
            evaluate=self._evaluate(prepared) if stage.loop.evaluate else None,
            initialize=self._initialize,
        )
        try:
            trainer.run()
        finally:
            recorder.close()
        if rank == 0:
            self._write_outputs(prepared, trainer)
            recorder.state("finished")

    def _try_sync_batch_norm(self) -> None:
        """Hold Paddle's kernel against ours before the training relies on it; every rank calls this.

        Raises:
            UnusableKernelError: it computes something else on one of the ranks.
        """
        import paddle

        from stdc.nn.sync_batch_norm import find_difference

        found = ranks.exchange("sync-batch-norm", find_difference(paddle.nn.SyncBatchNorm), self.limits.pause_s)
        wrong = [f"rank {rank}: {text}" for rank, text in enumerate(found) if text]
        if wrong:
            raise UnusableKernelError(
                f"Paddle's synchronized batch norm is not usable on {self.hardware.device} ({wrong[0]})"
            )

    def _initialize(self, model: Segmentor) -> None:
        """Put the given weights into a new network."""
        from stdc.nn.state import load_start

        if self.inputs.backbone is not None:
            load_start(model, array_files.read_safetensors(self.inputs.backbone), str(self.inputs.backbone))

    def _evaluate(self, prepared: _Prepared) -> Evaluate:
        """Evaluation during training: whole validation images at full scale, shared out over ranks."""
        from stdc.training.validation import Validation

        augmentation = self.stage.recipe.augmentation
        dataset = EvalDataset(prepared.val_entries, augmentation.mean, augmentation.std)
        return Validation(dataset, self.stage.loop.prediction_images, self.limits)

    def _write_outputs(self, prepared: _Prepared, trainer: Trainer) -> None:
        """Each output whole and at its place only when it is complete; the weights last.

        The weights get the heads that PaddleSeg builds and never runs, so that it finds every key it knows.
        """
        from stdc.nn.state import with_unused_heads

        outputs, folder = self.outputs, prepared.folder
        model, best = trainer.result()
        files.write_text(outputs.history, files.read_text(folder.history, "a history"))
        if outputs.vdl is not None:
            write_visualdl(folder, outputs.vdl)
        files.write_json(outputs.provenance, self._provenance(prepared))
        if outputs.best is not None and best is not None:
            array_files.write_pdparams(outputs.best, with_unused_heads(best))
        array_files.write_pdparams(outputs.model, with_unused_heads(model))
        finished.keep(outputs.paths(), prepared.run_hash)
        (ranks.tell if ranks.in_rank() else self.log)(f"wrote {outputs.model}")

    def _segment(self) -> Mapping[str, Any]:
        """What is told of each start of a run: see `Recorder`."""
        return {
            **provenance.commit(),
            "command": provenance.command(),
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "device": devices.describe(self.hardware.device),
            "lease": leases.current(),
            "hardware": dataclasses.asdict(self.hardware),
        }

    def _provenance(self, prepared: _Prepared) -> Dict[str, Any]:
        """Where the weights come from. An interrupted run has several segments; the newest one speaks for it."""
        segments = prepared.folder.read_segments()
        return {
            **self._segment(),
            "config": dict(self.stage.document),
            "recipe": self.stage.recipe.as_dict(),
            "seed": self.seed,
            "start": prepared.start,
            "manifest_sha256": prepared.identity["inputs"]["manifest"],
            "run_hash": prepared.run_hash,
            "identity": prepared.identity,
            "started": segments[0]["started"] if segments else now(),
            "finished": now(),
            "segments": segments,
        }
