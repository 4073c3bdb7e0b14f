"""Files of one run that contradict each other: each pair is found, named on both sides, and ends in exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import made_results
import pytest
from programs import assert_refused, run_program

from stdc.errors import InputError
from stdc.report.report_job import ReportJob

FRAMES = [f"frankfurt_000000_{number:06d}" for number in range(3)]


def write_run(folder: Path) -> ReportJob:
    """A run of two seeds whose files agree, and the job that reports it."""
    config = made_results.report_config(seeds=[0, 1], report={"overlays": 0})
    for seed in (0, 1):
        made_results.write_seed(folder / f"seed{seed}", seed, FRAMES, (1024, 2048))
        for name in ("model", "best"):
            (folder / f"seed{seed}" / f"{name}.pdparams").write_bytes(f"{name} {seed}".encode())
    (folder / "report.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(made_results.manifest(4, 0, FRAMES)), encoding="utf-8")
    for split in ("train", "val"):
        made_results.write_list(folder / f"{split}.txt", FRAMES)
    lists = {split: folder / f"{split}.txt" for split in ("train", "val")}
    made_results.tie(folder, config, folder / "manifest.json", lists)
    return ReportJob(
        config=folder / "report.json",
        results=folder,
        manifest=folder / "manifest.json",
        dataset=folder / "none",
        labels=folder / "none",
        index=folder / "none",
        val_list=lists["val"],
        train_list=lists["train"],
        benchmarks=[],
        command=[],
        device="cpu",
        threads=1,
        verdict=folder / "out" / "verdict.json",
        report=folder / "out" / "report.html",
    )


def edited(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")

    return edit


def better(metrics: Dict[str, Any]) -> None:
    """The mIoU that one would like to have, above counts that say otherwise."""
    metrics["miou"] = metrics["protocols"][0]["miou"] = 0.7466


def last_iteration(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")


def backwards(path: Path) -> None:
    path.write_text("\n".join(reversed(path.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8")


CONTRADICTIONS: List[Any] = [
    ("seed0/metrics.json", edited(better), ["protocol single_scale: miou: 0.7466", "its confusion matrix: 0."]),
    ("seed1/metrics_best.json", edited(better), ["seed1/metrics_best.json", "miou: 0.7466"]),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics["protocols"][1].update(pixel_accuracy=1.0)),
        ["protocol flip: pixel_accuracy: 1.0; its confusion matrix"],
    ),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics["protocols"][1]["category_iou"].update(sky=0.9)),
        ["protocol flip: category_iou.sky: 0.9; its confusion matrix"],
    ),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics.update(images=500)),
        ["images: 500", "protocols[0].images: 3"],
    ),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics["protocols"][1].update(images=500)),
        ["protocol flip: images: 500", "val.txt: frames: 3"],
    ),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics["protocols"][1].update(image_names_sha256="ab" * 32)),
        ["image_names_sha256: abab", "val.txt: its names"],
    ),
    (
        "seed1/metrics.json",
        edited(lambda metrics: metrics.update(manifest_sha256="cd" * 32)),
        ["seed1/metrics.json: manifest_sha256: cdcd", "manifest.json"],
    ),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics.update(list_sha256="cd" * 32)),
        ["seed0/metrics.json: list_sha256: cdcd", "val.txt"],
    ),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics["per_image"].pop()),
        ["per_image has 2 frames", "val.txt: other frames"],
    ),
    (
        "seed0/metrics.json",
        edited(lambda metrics: metrics["protocols"].pop()),
        ["metrics.json: protocols", "configuration: evaluate.protocols"],
    ),
    ("seed0/model.pdparams", lambda path: path.write_bytes(b"others"), ["weights_sha256", "seed0/model.pdparams"]),
    ("seed1/best.pdparams", lambda path: path.write_bytes(b"others"), ["weights_sha256", "seed1/best.pdparams"]),
    ("seed0/provenance.json", edited(lambda made: made.update(seed=7)), ["provenance.json: seed: 7", "the seed: 0"]),
    (
        "seed0/provenance.json",
        edited(lambda made: made.update(manifest_sha256="cd" * 32)),
        ["provenance.json: manifest_sha256: cdcd", "manifest.json"],
    ),
    (
        "seed0/provenance.json",
        edited(lambda made: made["identity"]["inputs"].update(manifest="cd" * 32)),
        ["identity.inputs.manifest: cdcd"],
    ),
    (
        "seed1/provenance.json",
        edited(lambda made: made["recipe"].update(iterations=2)),
        ["seed1/provenance.json: recipe.iterations: 2", "configuration: iterations: 400"],
    ),
    (
        "seed0/provenance.json",
        edited(lambda made: made["identity"]["network"].update(backbone="stdc2")),
        ["network.backbone: stdc2", "configuration: backbone: stdc1"],
    ),
    (
        "seed1/provenance.json",
        edited(lambda made: made.update(start={"sha256": "cd" * 32})),
        ["seed1/provenance.json: start: sha256: cdcd", "seed0: None"],
    ),
    ("seed0/provenance.json", edited(lambda made: made.pop("recipe")), ["provenance.json: recipe: missing"]),
    ("seed0/provenance.json", lambda path: path.unlink(), ["provenance.json", "missing"]),
    ("seed0/history.jsonl", last_iteration, ["last iteration: 20", "train.iterations: 400"]),
    ("seed0/history.jsonl", backwards, ["iterations do not ascend"]),
    ("seed0/history.jsonl", lambda path: path.unlink(), ["last iteration: 0"]),
    (
        "train.txt",
        lambda path: made_results.write_list(path, FRAMES[:2]),
        ["identity.inputs.train_list", "train.txt"],
    ),
    ("val.txt", lambda path: made_results.write_list(path, FRAMES[:2]), ["images: 3", "val.txt: frames: 2"]),
    (
        "manifest.json",
        edited(lambda manifest: manifest["splits"]["train"].update(frames=2975)),
        ["splits.train.frames: 2975; frames listed there: 4"],
    ),
    (
        "manifest.json",
        edited(lambda manifest: manifest["frames"][-1].update(frame="lindau_000000_000019")),
        ["val.txt: frankfurt_000000_000002", "manifest.json: no such validation frame"],
    ),
    (
        "manifest.json",
        edited(lambda manifest: manifest.update(expected="cityscapes")),
        ["manifest.json: expected: cityscapes; configuration: data.expect: any"],
    ),
    (
        "report.json",
        edited(lambda config: config["train"].update(iterations=80000)),
        ["recipe.iterations: 400", "configuration: iterations: 80000"],
    ),
    (
        "report.json",
        edited(lambda config: config["model"].update(backbone="stdc2")),
        ["network.backbone: stdc1", "configuration: backbone: stdc2"],
    ),
]


def test_files_of_one_run_are_accepted(tmp_path: Path) -> None:
    assert write_run(tmp_path).run()["verdict"] == "NOT COMPARABLE"


@pytest.mark.parametrize(
    ("name", "change", "fragments"),
    CONTRADICTIONS,
    # The same in every process that collects tests: a function's text holds its address.
    ids=[f"{number} {name}: {fragments[0]}" for number, (name, _, fragments) in enumerate(CONTRADICTIONS, 1)],
)
def test_each_contradiction_names_both_sides(
    tmp_path: Path, name: str, change: Callable[[Path], Any], fragments: List[str]
) -> None:
    job = write_run(tmp_path)
    change(tmp_path / name)
    with pytest.raises(InputError) as caught:
        job.run()
    text = str(caught.value)
    assert "\n" not in text
    assert all(fragment in text for fragment in fragments), text
    assert not (tmp_path / "out").exists()


def test_given_weights_have_no_training_to_contradict(tmp_path: Path) -> None:
    job = write_run(tmp_path)
    edited(lambda config: config.update(weights="/secret/folder/theirs.pdparams"))(tmp_path / "report.json")
    for seed in (0, 1):
        for name in ("provenance.json", "history.jsonl"):
            (tmp_path / f"seed{seed}" / name).unlink()
    assert job.run()["initialization"]["kind"] == "judged"
    page = job.shared.read_text(encoding="utf-8")
    assert "weights that were given (theirs.pdparams), evaluated on" in page and "trained and evaluated on" not in page
    assert "/secret/folder" not in page
    (tmp_path / "seed0" / "model.pdparams").write_bytes(b"others")
    with pytest.raises(InputError, match="weights_sha256"):
        job.run()


def test_program_ends_with_2_and_the_pair(tmp_path: Path) -> None:
    write_run(tmp_path)
    edited(better)(tmp_path / "seed0" / "metrics.json")
    words = {name: tmp_path / f"{name}.json" for name in ("config", "manifest")}
    words.update(config=tmp_path / "report.json", results=tmp_path, dataset=tmp_path, labels=tmp_path, index=tmp_path)
    words.update({"list": tmp_path / "val.txt", "train-list": tmp_path / "train.txt"})
    words.update(verdict=tmp_path / "out" / "verdict.json", report=tmp_path / "out" / "report.html")
    done = run_program("report", *[word for key, value in words.items() for word in (f"--{key}", value)])
    assert_refused(done, "miou: 0.7466; its confusion matrix: 0.", "contradict each other")
    assert not (tmp_path / "out").exists()
