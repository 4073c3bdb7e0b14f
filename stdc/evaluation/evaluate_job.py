"""An evaluation job: from files to `metrics.json`, on one device in this process or shared out over ranks."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from stdc import files
from stdc.data.dataset import EvalDataset
from stdc.data.entries import read_entries, read_prepared
from stdc.errors import InputError
from stdc.machine import devices, ranks, watcher
from stdc.machine.heartbeat import EVALUATING, Heartbeat, Limits
from stdc.prediction import backends
from stdc.progress import Log, Progress
from stdc.stages import EvaluateStage

if TYPE_CHECKING:
    from stdc.evaluation.counts import Counts


@dataclasses.dataclass(frozen=True)
class EvaluateJob:
    """What to evaluate on what.

    Attributes:
        stage: the configuration.
        weights: trained weights, `.pdparams` or `.safetensors`.
        dataset, labels: dataset root, folder of label rasters.
        manifest, index: what was checked of the one, and what was made in the other.
        val_list: the frames to evaluate.
        output: `metrics.json`, written last.
        device, devices, threads: kind and number of devices, CPU threads per process.
        log: receives lines for the user.
    """

    stage: EvaluateStage
    weights: Path
    dataset: Path
    labels: Path
    manifest: Path
    index: Path
    val_list: Path
    output: Path
    device: str
    devices: int
    threads: int
    log: Log

    def run(self, argv: List[str]) -> None:
        """Evaluate and write the figures; in a rank, evaluate its share.

        Args:
            argv: program and arguments that start a rank with the same job.
        Raises:
            InputError, RunError, StoppedError: see `evaluate` and `watcher.run_ranks`.
        """
        if self.devices < 1:
            raise InputError(f"devices: {self.devices}; at least 1 is needed")
        backend = backends.resolve(self.stage.evaluation.backend, self.device, self._log_once)
        other = backends.other_than(backend, self.device) if self.stage.evaluation.compared_images else None
        dataset = self.open_dataset()
        devices.prepare(self.device, self.threads, devices.kernel_flags(self.stage.kernels))
        if ranks.in_rank():
            with ranks.reporting_rank():
                self._evaluate_share(dataset, backend, other)
            return
        if self.devices == 1:
            counts = self._evaluate_share(dataset, backend, other)
        else:
            counts = self._evaluate_in_ranks(argv)
        self._write(dataset, counts, backend, other)

    def open_dataset(self) -> EvalDataset:
        """The images of the list, each file with the digest that the check found."""
        prepared = read_prepared(self.dataset, self.labels, self.manifest, self.index)
        entries = read_entries(self.val_list, "val", prepared, self.stage.separator)
        return EvalDataset(entries, self.stage.mean, self.stage.std)

    def _evaluate_share(self, dataset: EvalDataset, backend: str, other: Optional[str]) -> List[Counts]:
        """What one process evaluates; a rank leaves its counts in a file."""
        from stdc.evaluation import evaluate
        from stdc.evaluation.counts import save_counts

        devices.select(self.device)
        source = backends.Source(self.stage.network, self.weights, self.device, self.threads)
        predictor = backends.open_predictor(backend, source)
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

        watches = []
        comparison = None
        if other is not None:
            chosen = evaluate.spread(len(dataset), self.stage.evaluation.compared_images)
            comparison = evaluate.Comparison(backends.open_predictor(other, source), self.stage.protocols[0])
            watches.append(evaluate.Watch(frozenset(chosen), comparison.see))
        counts = evaluate.evaluate(predictor, dataset, self.stage.protocols, indices, evaluated, watches)
        if comparison is not None:
            counts[0].compared.update(comparison.compared)
        progress.finish()
        if ranks.in_rank():
            save_counts(self._rank_folder / f"rank{rank}.npz", counts)
        return counts

    def _evaluate_in_ranks(self, argv: List[str]) -> List[Counts]:
        from stdc.evaluation.counts import load_counts, merge

        devices.check_count(self.device, self.devices)
        watcher.run_ranks(
            argv,
            device=self.device,
            world_size=self.devices,
            folder=self._rank_folder,
            limits=Limits(),
            log=self.log,
        )
        paths = [self._rank_folder / f"rank{rank}.npz" for rank in range(self.devices)]
        parts = [load_counts(path, self.stage.protocols) for path in paths]
        shutil.rmtree(self._rank_folder)
        return merge(parts)

    def _write(self, dataset: EvalDataset, counts: List[Counts], backend: str, other: Optional[str]) -> None:
        from stdc.evaluation.document import Computed, document

        computed = Computed(
            weights_sha256=files.sha256_file(self.weights),
            backend=backends.full_name(backend, self.device),
            precision=devices.precision(self.device),
            other_backend=backends.full_name(other, self.device) if other else "",
        )
        content = document(counts, [entry.frame for entry in dataset.entries], computed)
        # Which data the figures are of: for weights that were given, no training's provenance says so.
        content["manifest_sha256"] = files.sha256_file(self.manifest)
        content["list_sha256"] = files.sha256_file(self.val_list)
        files.write_json(self.output, content)
        compared = content.get("backend_comparison")
        # The first protocol is the one that both backends predict.
        other = (
            f"; {compared['backend']} differs in {compared['differing_pixels']} of {compared['pixels']} pixels "
            f"of {compared['images']} images"
            if compared
            else ""
        )
        for number, figures in enumerate(content["protocols"]):
            miou = "none, no pixel counts" if figures["miou"] is None else f"{100 * figures['miou']:.2f} %"
            words = f"{figures['protocol']['name']}: mIoU {miou} on {figures['images']} images"
            self.log(words if number else words + other)

    def _log_once(self, line: str) -> None:
        """Of what every process finds: said by the one that the user started."""
        if not ranks.in_rank():
            self.log(line)

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
