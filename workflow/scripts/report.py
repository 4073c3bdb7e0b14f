"""Compare a run with the published figures, and show on one page how the figures came about."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import program
from stdc.errors import InputError
from stdc.files import read_json, sha256_file, write_json, write_text
from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.report.results_folder import Results, SeedResult, read_config, read_seed

METRICS_ONLY = "_metrics_only"


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "report",
        __doc__ or "",
        "--config report.json --results results/mini --manifest manifest.json --dataset /data/cityscapes "
        "--labels labels --list val.txt --verdict verdict.json --report report.html",
    )
    for name, kind, text in (
        ("config", "FILE", "stage configuration: name, seeds, dataset_kind, model, train, data, report"),
        ("results", "FOLDER", "results folder with seed<k>/"),
        ("manifest", "FILE", "manifest of the dataset"),
        ("dataset", "FOLDER", "dataset root; only read"),
        ("labels", "FOLDER", "folder of train id rasters"),
        ("list", "FILE", "list of the validation frames"),
        ("verdict", "FILE", "JSON file to write"),
        ("report", "FILE", "HTML file to write; a second one without pictures is written beside it"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar=kind, help=text)
    program.add_device_options(parser)
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc.report import page

    config = read_config(options.config)
    manifest = read_json(options.manifest)
    if not isinstance(manifest, dict):
        raise InputError(f"{options.manifest}: no manifest; run check_dataset again")
    seeds = [read_seed(options.results / f"seed{seed}", seed) for seed in config["seeds"]]
    results = Results(config, manifest, sha256_file(options.manifest), seeds)
    reference = load_reference()
    verdict = judge(results.evidence(), reference)
    pictures = _pictures(options, config, seeds[0])
    shared = options.report.with_name(options.report.stem + METRICS_ONLY + options.report.suffix)
    write_text(shared, page.render(results, verdict, reference, None))
    write_text(options.report, page.render(results, verdict, reference, pictures, shared.name))
    write_json(options.verdict, verdict)
    _announce(verdict, options.report, shared)


def _pictures(options: argparse.Namespace, config: Mapping[str, Any], result: SeedResult) -> List[Any]:
    """Pictures of some validation frames with the first seed's final weights."""
    count = int(config["report"].get("overlays") or 0)
    per_image: Sequence[Mapping[str, Any]] = result.metrics.get("per_image") or []
    weights = options.results / f"seed{result.seed}" / "model.pdparams"
    if count < 1 or not per_image or not weights.exists():
        return []
    from stdc.report.frame_pictures import choose_frames, make_pictures

    choices = choose_frames(per_image, count)
    pairs = _pairs(options, config, [str(per_image[choice.position]["frame"]) for choice in choices])
    return make_pictures(per_image, choices, pairs, _predictor(options, config, result, per_image, pairs, weights))


def _pairs(options: argparse.Namespace, config: Mapping[str, Any], frames: Sequence[str]) -> Dict[str, Any]:
    from stdc.data.lists import read_list

    listed = read_list(options.list, options.dataset, options.labels, config["data"].get("separator", ","))
    pairs = {pair.frame: pair for pair in listed}
    missing = [frame for frame in frames if frame not in pairs]
    if missing:
        raise InputError(f"{options.list}: {missing[0]} was evaluated but is not in the list; run evaluate again")
    return pairs


def _predictor(
    options: argparse.Namespace,
    config: Mapping[str, Any],
    result: SeedResult,
    per_image: Sequence[Mapping[str, Any]],
    pairs: Mapping[str, Any],
    weights: Path,
) -> Any:
    """A function from a position in `per_image` to train ids, under the main protocol."""
    from stdc import recipe
    from stdc.data.dataset import EvalDataset
    from stdc.machine import devices

    devices.prepare(options.device, options.threads)
    devices.select(options.device)
    from stdc.prediction.predict import load_network, predict
    from stdc.prediction.protocols import Protocol

    main = result.metrics["protocol"]
    protocol = Protocol(str(main.get("name")), tuple(main.get("scales") or (1.0,)), bool(main.get("flip")))
    model = load_network(recipe.part_of(recipe.Network, config["model"]), weights)
    mean, std = recipe.normalization(config["train"])

    def predicted(position: int) -> Any:
        dataset = EvalDataset([pairs[str(per_image[position]["frame"])]], mean, std)
        return predict(model, dataset[0][0], [protocol])[0]

    return predicted


def _announce(verdict: Mapping[str, Any], report: Path, shared: Path) -> None:
    """The verdict where nobody overlooks it; one reason per line."""
    but = ", but:" if verdict["reasons"] else ""
    rule = "-" * 78
    lines = [rule, verdict["verdict"], f"  {verdict['summary']}{but}"]
    lines += [f"  - {reason}" for reason in verdict["reasons"]]
    lines += [f"  report: {report}", f"  to share, without pictures: {shared}", rule]
    print("\n" + "\n".join(lines) + "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
