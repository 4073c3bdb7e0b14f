"""From the files of a finished run to its verdict and its pages."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

from stdc.errors import InputError
from stdc.files import sha256_file, write_json, write_text
from stdc.published.agreement import RunFiles, SeedFiles, check_agreement
from stdc.published.configured_run import ConfiguredRun
from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.results.folder import (
    ReportStage,
    Results,
    SeedResult,
    files_of,
    read_dataset_manifest,
    read_report_stage,
    read_seed,
)
from stdc.results.stage_costs import read_stage_costs

if TYPE_CHECKING:
    import numpy as np

    from stdc.data.entries import Entry
    from stdc.report.frame_pictures import Picture

METRICS_ONLY = "_metrics_only"


@dataclasses.dataclass(frozen=True)
class ReportJob:
    """What a report is made from, and where it goes.

    Attributes:
        config: configuration of the report stage.
        results: the results folder, with seed<k>/.
        manifest: of the dataset check.
        dataset: root of the dataset, which is only read.
        labels, index: folder of label rasters, and what was made in it. These and the dataset are needed for pictures.
        val_list: list of the validation frames.
        train_list: list of the training frames; None: it is not compared with the provenance.
        benchmarks: Snakemake's measurements of the stages; those that are not there are left out.
        command: words of the command that started the run; empty where it is not known.
        device, threads: what predicts the pictured frames.
        verdict, report: files to write; a second page without pictures is written beside the report.
    """

    config: Path
    results: Path
    manifest: Path
    dataset: Path
    labels: Path
    index: Path
    val_list: Path
    train_list: Optional[Path]
    benchmarks: Sequence[Path]
    command: Sequence[str]
    device: str
    threads: int
    verdict: Path
    report: Path

    @property
    def shared(self) -> Path:
        """The page without pictures."""
        return self.report.with_name(self.report.stem + METRICS_ONLY + self.report.suffix)

    def run(self) -> Dict[str, Any]:
        """Write both pages and, last, the verdict.

        Returns:
            The content of `verdict.json`.
        Raises:
            InputError: a file is missing, damaged or of another shape.
        """
        from stdc.report import page

        stage = read_report_stage(self.config)
        manifest = read_dataset_manifest(self.manifest)
        seeds = [read_seed(self.results / f"seed{seed}", seed) for seed in stage.run.seeds]
        results = Results(
            stage=stage,
            manifest=manifest,
            manifest_sha256=sha256_file(self.manifest),
            seeds=seeds,
            costs=read_stage_costs(self.benchmarks),
            files=files_of(self.results, stage.run.seeds, beside={self.verdict.name, self.shared.name}),
            command=self.command,
        )
        check_agreement(self._run_files(results))
        reference = load_reference()
        verdict = judge(results.evidence(), reference)
        pictures = self._pictures(stage, seeds[0])
        write_text(self.shared, page.render(results, verdict, reference, None))
        write_text(self.report, page.render(results, verdict, reference, pictures, self.shared.name))
        write_json(self.verdict, verdict)
        return verdict

    def _run_files(self, results: Results) -> RunFiles:
        """What is said twice in the files of this run, for the check that it is the same."""
        from stdc.data.layout import IMAGE, SUFFIXES, frame_of
        from stdc.data.lists import read_lines

        def weights_sha256(seed: SeedResult, name: str) -> Optional[str]:
            path = self.results / f"seed{seed.seed}" / name
            return sha256_file(path) if path.exists() else None

        lists = {"val": self.val_list, **({"train": self.train_list} if self.train_list else {})}
        lines = read_lines(self.val_list, results.stage.separator)
        given = results.stage.given_weights is not None
        return RunFiles(
            configured=results.stage.run,
            manifest_path=self.manifest,
            manifest=results.manifest,
            manifest_sha256=results.manifest_sha256,
            list_paths=lists,
            list_sha256={split: sha256_file(path) for split, path in lists.items()},
            val_frames=[str(frame_of(line.image, SUFFIXES[IMAGE])) for line in lines],
            seeds=[
                SeedFiles(
                    folder=self.results / f"seed{seed.seed}",
                    seed=seed.seed,
                    metrics=seed.metrics,
                    best=seed.best,
                    model_sha256=weights_sha256(seed, "model.pdparams"),
                    best_sha256=weights_sha256(seed, "best.pdparams"),
                    history=None if given else seed.history,
                    provenance=None if given else seed.provenance,
                    weights=seed.weights_record,
                )
                for seed in results.seeds
            ],
        )

    def _pictures(self, stage: ReportStage, result: SeedResult) -> List[Picture]:
        """Pictures of some validation frames with the first seed's final weights."""
        per_image: Sequence[Mapping[str, Any]] = result.metrics.get("per_image") or []
        weights = self.results / f"seed{result.seed}" / "model.pdparams"
        if stage.overlays < 1 or not per_image or not weights.exists():
            return []
        from stdc.report.frame_pictures import choose_frames, make_pictures

        choices = choose_frames(per_image, stage.overlays)
        frames = [str(per_image[choice.position]["frame"]) for choice in choices]
        pairs = self._pairs(stage.separator, frames)
        predict = self._predictor(stage.run, result, weights)
        return make_pictures(
            per_image, choices, pairs, lambda position: predict(pairs[str(per_image[position]["frame"])])
        )

    def _pairs(self, separator: str, frames: Sequence[str]) -> Dict[str, Entry]:
        """Image and label of the frames of the validation list, by name."""
        from stdc.data.entries import read_entries, read_prepared

        prepared = read_prepared(self.dataset, self.labels, self.manifest, self.index)
        pairs = {entry.frame: entry for entry in read_entries(self.val_list, "val", prepared, separator)}
        missing = [frame for frame in frames if frame not in pairs]
        if missing:
            raise InputError(f"{self.val_list}: {missing[0]} was evaluated but is not in the list; run evaluate again")
        return pairs

    def _predictor(self, run: ConfiguredRun, result: SeedResult, weights: Path) -> Callable[[Entry], np.ndarray]:
        """A function from a frame's files to train ids (H, W), under the main protocol."""
        from stdc.data.dataset import EvalDataset
        from stdc.machine import devices

        devices.prepare(self.device, self.threads, devices.kernel_flags(run.recipe.kernels))
        devices.select(self.device)
        from stdc.prediction.predict import load_network, predict
        from stdc.prediction.protocols import Protocol

        main = result.metrics["protocol"]
        protocol = Protocol(str(main.get("name")), tuple(main.get("scales") or (1.0,)), bool(main.get("flip")))
        model = load_network(run.network, weights)
        augmentation = run.recipe.augmentation

        def predicted(pair: Entry) -> np.ndarray:
            train_ids: np.ndarray = predict(
                model, EvalDataset([pair], augmentation.mean, augmentation.std)[0][0], [protocol]
            )[0]
            return train_ids

        return predicted


#: Reasons shown on a terminal; more lines would push the start of a run off the screen.
TERMINAL_REASONS = 5


def announcement(verdict: Mapping[str, Any], report: Path, shared: Path) -> str:
    """The verdict for a terminal, one reason per line; the report lists those beyond the first ones too."""
    reasons = list(verdict["reasons"])
    lines = [verdict["verdict"], f"  {verdict['summary']}{', but:' if reasons else ''}"]
    lines += [f"  - {reason}" for reason in reasons[:TERMINAL_REASONS]]
    if len(reasons) > TERMINAL_REASONS:
        lines.append(f"  - and {len(reasons) - TERMINAL_REASONS} more, in {report}")
    return "\n".join([*lines, f"  to share, without pictures: {shared}"])
