"""A training job: from files to files, around the loop in `stdc.training.loop`."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from stdc import files, provenance, recipe
from stdc.data.dataset import EvalDataset, TrainDataset
from stdc.data.lists import read_list
from stdc.data.manifest import read_manifest
from stdc.data.transforms import check_crop
from stdc.errors import RunError
from stdc.evaluation import metrics
from stdc.machine import devices, ranks
from stdc.training import checkpoints, identity
from stdc.training.loader import remove_semaphores
from stdc.training.recorder import write_visualdl
from stdc.weights import array_files

if TYPE_CHECKING:
    from stdc.training.loop import Evaluate

Arrays = Dict[str, np.ndarray]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Files and folders a training job reads."""

    dataset: Path
    labels: Path
    manifest: Path
    train_list: Path
    val_list: Path
    backbone: Optional[Path]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Files a training job leaves; each is written once, at the end."""

    model: Path
    best: Optional[Path]
    history: Path
    provenance: Path
    vdl: Optional[Path]


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Where a job runs: kind and number of devices, CPU threads a process, data workers a device."""

    device: str
    devices: int
    threads: int
    workers: int


class TrainJob:
    """One seed of one recipe.

    Args:
        config: the stage configuration: sections `model`, `train`, `data`.
        runs: folder of run folders.
        say: receives one line at a time for the person who waits.
    Raises:
        InputError: the recipe, the lists or the hardware do not fit together.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        inputs: Inputs,
        outputs: Outputs,
        hardware: Hardware,
        seed: int,
        runs: Path,
        say: Say,
    ) -> None:
        self.config, self.inputs, self.outputs = config, inputs, outputs
        self.hardware, self.seed, self.say = hardware, seed, say
        self.started = datetime.datetime.now(datetime.timezone.utc)
        self.recipe = recipe.resolve(config["train"])
        self.recipe.schedule.per_device_batch(hardware.devices)
        self.augmentation = self.recipe.augmentation
        # Before anything slow: a crop that does not fit is found here, not at the first image that is too small.
        frames = read_manifest(inputs.manifest)["frames"]
        for height, width in sorted({tuple(frame["size"]) for frame in frames if frame["split"] == "train"}):
            check_crop(self.augmentation, height, width)
        separator = config["data"]["separator"]
        self.train_entries = read_list(inputs.train_list, inputs.dataset, inputs.labels, separator)
        self.val_entries = read_list(inputs.val_list, inputs.dataset, inputs.labels, separator)
        devices.prepare(hardware.device, hardware.threads, devices.kernel_flags(self.recipe.kernels))
        self.identity = self._identity()
        self.run_hash = identity.run_hash(self.identity)
        self.folder = runs / self.run_hash[:16]

    def run(self, argv: List[str]) -> None:
        """Train and write the outputs; on several devices, in ranks.

        Args:
            argv: program and arguments that start the same job; ranks are started with them.
        Raises:
            InputError, RunError, StoppedError: see `stdc.training.loop` and `ranks.run_ranks`.
        """
        if ranks.in_rank():
            with ranks.reporting_rank():
                self._train()
            return
        with checkpoints.locked(self.folder, self.say):
            self._tidy()
            self.say(f"run folder {self.folder}")
            if self.hardware.devices == 1:
                self._train()
            else:
                devices.check_count(self.hardware.device, self.hardware.devices)
                ranks.run_ranks(argv, self.hardware.device, self.hardware.devices, self.folder / "ranks", self.say)

    def evaluate_every(self) -> int:
        """Iterations between evaluations during training; 0 where they are off."""
        train = self.config["train"]
        if not train.get("evaluate"):
            return 0
        return int(train.get("eval_interval") or train["save_interval"])

    def _identity(self) -> Dict[str, Any]:
        inputs = self.inputs
        return identity.run_identity(
            self.recipe,
            self.config["model"],
            self.seed,
            self.hardware.devices,
            self.hardware.threads,
            self.hardware.device,
            self.evaluate_every(),
            {
                "manifest": files.sha256_file(inputs.manifest),
                "train_list": files.sha256_file(inputs.train_list),
                # The validation images choose the best weights.
                "val_list": files.sha256_file(inputs.val_list) if self.evaluate_every() else None,
                "backbone": files.sha256_file(inputs.backbone) if inputs.backbone else None,
            },
        )

    def _tidy(self) -> None:
        """Remove what a killed process left, and say what the folder belongs to. Only while holding its lock."""
        for folder in (self.folder, self.folder / "checkpoints", self.folder / "best"):
            checkpoints.remove_temporary(folder)
        remove_semaphores(identity.semaphore_owner(self.run_hash))
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "diverged.json").unlink()
        files.write_json(self.folder / "identity.json", {"run_hash": self.run_hash, **self.identity})

    def _train(self) -> None:
        """What each rank does."""

        from stdc.training.loop import LoopSettings, Trainer

        devices.select(self.hardware.device)
        rank, world_size = ranks.rank_and_world()
        if world_size > 1:
            devices.join_ranks(self.hardware.device)
        train = self.config["train"]
        trainer = Trainer(
            folder=self.folder,
            run_hash=self.run_hash,
            train_recipe=self.recipe,
            network=recipe.part_of(recipe.Network, self.config["model"]),
            seed=self.seed,
            settings=LoopSettings(
                save_interval=train["save_interval"],
                log_interval=train["log_interval"],
                evaluate_every=self.evaluate_every(),
                keep_checkpoint_max=train["keep_checkpoint_max"],
                workers=self.hardware.workers,
                visualdl=bool(train.get("visualdl")),
            ),
            dataset=TrainDataset(self.train_entries, self.augmentation, self.seed),
            frames=[entry.frame for entry in self.train_entries],
            evaluate=self._evaluator(rank, world_size) if self.evaluate_every() else None,
            device_kind=self.hardware.device,
            say=self.say if rank == 0 else _silent,
            pretrained=self.inputs.backbone,
        )
        trainer.run()
        if rank == 0:
            model, best = trainer.result()
            self._write_outputs(model, best)

    def _evaluator(self, rank: int, world_size: int) -> Evaluate:
        """Evaluation during training: whole validation images at full scale, shared out over ranks."""
        import paddle

        from stdc.evaluation.evaluate import evaluate, shard
        from stdc.evaluation.pictures import prediction_pictures
        from stdc.evaluation.predict import Protocol

        dataset = EvalDataset(self.val_entries, self.augmentation.mean, self.augmentation.std)
        protocol = Protocol("full", (1.0,), False)
        pictured = int(self.config["train"].get("prediction_images") or 0)

        def miou_and_pictures(model: Any) -> Tuple[float, Dict[str, np.ndarray]]:
            (counts,) = evaluate(model, dataset, [protocol], shard(len(dataset), rank, world_size))
            confusion = paddle.to_tensor(counts.confusion)
            if world_size > 1:
                paddle.distributed.all_reduce(confusion)
            miou = metrics.mean_iou(confusion.numpy())
            pictures = prediction_pictures(model, dataset, pictured) if rank == 0 else {}
            # None: not one labeled pixel in the validation images.
            return miou if miou is not None else 0.0, pictures

        return miou_and_pictures

    def _write_outputs(self, model: Arrays, best: Optional[Arrays]) -> None:
        """Each output whole and at its place only when it is complete; the weights last.

        The weights get the heads that PaddleSeg builds and never runs, so that it finds every key it knows.
        """
        # Imports paddle, so not before this process has one.
        from stdc.nn.state import with_unused_heads

        outputs = self.outputs
        for name, array in model.items():
            if not np.isfinite(array).all():
                raise RunError(f"training diverged in its last step: {name} is not finite")
        files.write_text(outputs.history, (self.folder / "history.jsonl").read_text(encoding="utf-8"))
        if outputs.vdl is not None:
            write_visualdl(self.folder, outputs.vdl)
        files.write_json(outputs.provenance, self._provenance())
        if outputs.best is not None and best is not None:
            array_files.write_pdparams(outputs.best, with_unused_heads(best))
        array_files.write_pdparams(outputs.model, with_unused_heads(model))
        self.say(f"wrote {outputs.model}")

    def _provenance(self) -> Dict[str, Any]:
        finished = datetime.datetime.now(datetime.timezone.utc)
        return {
            **provenance.commit(),
            "command": provenance.command(),
            "config": dict(self.config),
            "recipe": self.recipe.as_dict(),
            "seed": self.seed,
            "manifest_sha256": self.identity["inputs"]["manifest"],
            "run_hash": self.run_hash,
            "identity": self.identity,
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "device": devices.describe(self.hardware.device),
            "hardware": dataclasses.asdict(self.hardware),
            # Of this process: a resumed run's earlier parts are in its history.
            "started": self.started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
        }


def _silent(_: str) -> None:
    pass
