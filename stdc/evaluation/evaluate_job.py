"""An evaluation job: from files to `metrics.json`, on one device in this process or shared out over ranks."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Mapping

from stdc import files, recipe
from stdc.data.dataset import EvalDataset
from stdc.data.entries import read_entries, read_prepared
from stdc.errors import InputError
from stdc.machine import devices, ranks
from stdc.machine.heartbeat import EVALUATING, Heartbeat, Limits
from stdc.progress import Progress

if TYPE_CHECKING:
    from stdc.evaluation.evaluate import Counts


@dataclasses.dataclass(frozen=True)
class EvaluateJob:
    """What to evaluate on what.

    Attributes:
        config: the stage configuration: sections `model`, `train`, `evaluate`, `data`.
        weights: trained weights, `.pdparams` or `.safetensors`.
        dataset, labels: dataset root, folder of label rasters.
        manifest, index: what was checked of the one, and what was made in the other.
        val_list: the frames to evaluate.
        output: `metrics.json`, written last.
        kind, devices, threads: kind and number of devices, CPU threads a process.
        say: receives lines for the user.
    """

    config: Mapping[str, Any]
    weights: Path
    dataset: Path
    labels: Path
    manifest: Path
    index: Path
    val_list: Path
    output: Path
    kind: str
    devices: int
    threads: int
    say: Callable[[str], None]

    def run(self, argv: List[str]) -> None:
        """Evaluate and write the figures; in a rank, evaluate its share.

        Args:
            argv: program and arguments that start a rank with the same job.
        Raises:
            InputError, RunError, StoppedError: see `evaluate` and `ranks.run_ranks`.
        """
        if self.devices < 1:
            raise InputError(f"devices: {self.devices}; at least 1 is needed")
        dataset = self.open_dataset()
        devices.prepare(self.kind, self.threads)
        if ranks.in_rank():
            with ranks.reporting_rank():
                self._evaluate_share(dataset)
            return
        if self.devices == 1:
            counts = self._evaluate_share(dataset)
        else:
            counts = self._evaluate_in_ranks(argv)
        self._write(dataset, counts)

    def open_dataset(self) -> EvalDataset:
        """The images of the list, each file with the digest that the check found."""
        prepared = read_prepared(self.dataset, self.labels, self.manifest, self.index)
        entries = read_entries(self.val_list, "val", prepared, self.config["data"]["separator"])
        return EvalDataset(entries, *recipe.normalization(self.config["train"]))

    def _evaluate_share(self, dataset: EvalDataset) -> List[Counts]:
        """What one process evaluates; a rank leaves its counts in a file."""
        from stdc.evaluation import evaluate, predict

        devices.select(self.kind)
        protocols = predict.read_protocols(self.config["evaluate"]["protocols"])
        model = predict.load_network(self.config["model"], self.weights)
        rank, world_size = ranks.rank_and_world()
        indices = evaluate.shard(len(dataset), rank, world_size)
        if not ranks.in_rank():
            progress = Progress("images", len(indices))
        else:
            progress = Progress(f"images of rank {rank}", len(indices), _RankLines())  # type: ignore[arg-type]
        heartbeat = ranks.heartbeat() if ranks.in_rank() else Heartbeat(None)

        def evaluated() -> None:
            progress.step()
            heartbeat.beat(EVALUATING, progress.done)

        counts = evaluate.evaluate(model, dataset, protocols, indices, evaluated)
        progress.finish()
        if ranks.in_rank():
            evaluate.save_counts(self._rank_folder / f"rank{rank}.npz", counts)
        return counts

    def _evaluate_in_ranks(self, argv: List[str]) -> List[Counts]:
        from stdc.evaluation import evaluate, predict

        protocols = predict.read_protocols(self.config["evaluate"]["protocols"])
        devices.check_count(self.kind, self.devices)
        ranks.run_ranks(
            argv,
            device=self.kind,
            world_size=self.devices,
            folder=self._rank_folder,
            limits=Limits(),
            log=self.say,
        )
        parts = [evaluate.load_counts(self._rank_folder / f"rank{rank}.npz", protocols) for rank in range(self.devices)]
        shutil.rmtree(self._rank_folder)
        return evaluate.merge(parts)

    def _write(self, dataset: EvalDataset, counts: List[Counts]) -> None:
        from stdc.evaluation import evaluate

        frames = [entry.frame for entry in dataset.entries]
        backend = devices.backend(self.kind)
        document = evaluate.document(counts, frames, files.sha256_file(self.weights), backend)
        files.write_json(self.output, document)
        for figures in document["protocols"]:
            miou = "none, no pixel counts" if figures["miou"] is None else f"{figures['miou']:.4f}"
            self.say(f"{figures['protocol']['name']}: mIoU {miou} on {figures['images']} images")

    @property
    def _rank_folder(self) -> Path:
        return self.output.parent / f".ranks-{self.output.name}"


class _RankLines:
    """A stream whose lines the watcher passes on to the user."""

    def write(self, text: str) -> int:
        ranks.tell(text.rstrip("\n"))
        return len(text)

    def flush(self) -> None:
        """Each line is handed over as it is written."""

    def isatty(self) -> bool:
        return False
