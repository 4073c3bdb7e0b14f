"""verify: what was changed after the run is found, each by its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import made_results
import numpy as np
import pytest
from programs import assert_refused, run_program

from stdc.errors import InputError
from stdc.files import canonical_json, sha256_file, sha256_text, write_json
from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.results.folder import Results, read_seed, report_stage
from stdc.results.verification import DIFFERS, NOT_HERE, OK, Digests, as_table, verify
from stdc.training.code_digest import code_sha256
from stdc.training.identity import EVALUATION_CODE, STEP_CODE

PACKAGE = Path(made_results.__file__).resolve().parents[1] / "stdc"
DIGESTS = Digests(code_sha256(PACKAGE, STEP_CODE), code_sha256(PACKAGE, EVALUATION_CODE))
FRAME = "frankfurt_000000_000001"


def write_everything(place: Path) -> Path:
    """A results folder with what it was made from, small, and every digest right; returns the results folder."""
    results, key = place / "results" / "mini", place / "resources" / "synthetic-12ab"
    seed = results / "seed0"
    made_results.write_seed(seed, 0, [FRAME], (64, 128))
    for metrics, weights in (("metrics.json", "model.pdparams"), ("metrics_best.json", "best.pdparams")):
        (seed / weights).write_bytes(weights.encode())
        document = json.loads((seed / metrics).read_text())
        for entry in (document, *document["protocols"]):
            entry["protocol"]["weights_sha256"] = sha256_file(seed / weights)
        write_json(seed / metrics, document)
    image = key / "dataset" / "leftImg8bit" / "val" / "frankfurt" / f"{FRAME}_leftImg8bit.png"
    raster = key / "labels" / "gtFine" / "val" / "frankfurt" / f"{FRAME}_gtFine_labelTrainIds.png"
    for path in (image, raster):
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.zeros((64, 128), np.uint8))
    manifest = made_results.manifest(0, 1)
    described = {"path": str(image.relative_to(key / "dataset")), "sha256": sha256_file(image)}
    entry = {"frame": FRAME, "city": "frankfurt", "split": "val", "size": [64, 128], "image": described}
    manifest["frames"] = [{**entry, "label": None, "instance": None}]
    write_json(key / "manifest.json", manifest)
    rasters = {f"val/{FRAME}": sha256_file(raster)}
    shows = {f"val/{FRAME}": "ab" * 32}
    index = {"manifest_sha256": sha256_file(key / "manifest.json"), "frames": rasters, "pixels": shows}
    write_json(key / "labels.json", index)
    (key / "lists-1").mkdir()
    (key / "lists-1" / "val.txt").write_text("a,b\n")
    (key / "lists-1" / "train.txt").write_text("c,d\n")
    provenance = json.loads((seed / "provenance.json").read_text())
    identity = {
        "code": DIGESTS.code,
        "evaluation_code": DIGESTS.evaluation_code,
        "inputs": {
            "manifest": sha256_file(key / "manifest.json"),
            "labels": sha256_text(canonical_json(shows)),
            "train_list": sha256_file(key / "lists-1" / "train.txt"),
            "val_list": sha256_file(key / "lists-1" / "val.txt"),
            "backbone": None,
        },
    }
    write_json(
        seed / "provenance.json",
        {**provenance, "identity": identity, "run_hash": sha256_text(canonical_json(identity))},
    )
    config = made_results.report_config()
    (results / "config").mkdir()
    write_json(results / "config" / "report.json", config)
    evidence = Results(report_stage(config, "report.json"), manifest, "", [read_seed(seed, 0)]).evidence()
    write_json(results / "verdict.json", judge(evidence, load_reference()))
    return results


def look(results: Path) -> Dict[str, str]:
    place = results.parents[1]
    found = verify(results, resources=place / "resources", dataset=None, digests=DIGESTS, log=lambda line: None)
    return {finding.subject.replace(f"{place}/", ""): finding.outcome for finding in found}


def test_what_was_not_touched_is_in_order(tmp_path):
    found = look(write_everything(tmp_path))
    assert set(found.values()) == {OK}, found
    expected = {
        "results/mini/seed0/metrics.json: single_scale",
        "results/mini/seed0/metrics.json: flip",
        "results/mini/seed0/metrics_best.json: single_scale",
        "results/mini/seed0/model.pdparams",
        "results/mini/seed0/best.pdparams",
        "results/mini/seed0/provenance.json: run_hash",
        "results/mini/seed0/provenance.json: code",
        "results/mini/seed0/provenance.json: evaluation_code",
        "results/mini/seed0/provenance.json: manifest",
        "results/mini/seed0/provenance.json: labels",
        "results/mini/seed0/provenance.json: train_list",
        "results/mini/seed0/provenance.json: val_list",
        "results/mini/verdict.json",
        "resources/synthetic-12ab/labels",
        "resources/synthetic-12ab/labels.json",
        "resources/synthetic-12ab/dataset",
    }
    assert expected <= set(found)


def judged(results: Path) -> Path:
    """The same folder as `-- judge` leaves it: weights of a file, and no training. Returns that file."""
    place, seed = results.parents[1], results / "seed0"
    for name in ("provenance.json", "history.jsonl", "metrics_best.json", "best.pdparams"):
        (seed / name).unlink()
    given, key = place / "theirs.pdparams", place / "resources" / "synthetic-12ab"
    given.write_bytes(b"theirs")
    write_json(seed / "weights.json", {"source": str(given), "sha256": sha256_file(given), "checksum": None})
    digests = {
        "manifest_sha256": sha256_file(key / "manifest.json"),
        "list_sha256": sha256_file(key / "lists-1" / "val.txt"),
    }
    edit_json(seed / "metrics.json", lambda document: document.update(digests))
    config = {**made_results.report_config(), "weights": str(given)}
    write_json(results / "config" / "report.json", config)
    manifest = json.loads((key / "manifest.json").read_text())
    evidence = Results(report_stage(config, "report.json"), manifest, "", [read_seed(seed, 0)]).evidence()
    write_json(results / "verdict.json", judge(evidence, load_reference()))
    return given


def test_a_judged_folder_is_verified_without_a_training(tmp_path):
    results = write_everything(tmp_path)
    given = judged(results)
    found = look(results)
    assert set(found.values()) == {OK}, found
    expected = {
        "results/mini/seed0/model.pdparams",
        "results/mini/seed0/weights.json: sha256",
        "results/mini/seed0/metrics.json: manifest_sha256",
        "results/mini/seed0/metrics.json: list_sha256",
        "results/mini/verdict.json",
        "resources/synthetic-12ab/labels",
        "resources/synthetic-12ab/dataset",
    }
    assert expected <= set(found)
    assert not any("provenance" in subject for subject in found)
    given.write_bytes(b"others")
    assert {subject for subject, outcome in look(results).items() if outcome == DIFFERS} == {
        "results/mini/seed0/weights.json: sha256"
    }
    given.unlink()
    assert look(results)["results/mini/seed0/weights.json: sha256"] == NOT_HERE
    placed = tmp_path / "resources" / "weights" / "downloads" / "theirs.pdparams"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(b"theirs")
    assert look(results)["results/mini/seed0/weights.json: sha256"] == OK


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


SEED = "results/mini/seed0"
KEY = "resources/synthetic-12ab"
VERDICT = "results/mini/verdict.json"
CHANGES = {
    "a better mIoU": (f"{SEED}/metrics.json", lambda d: d.update(miou=0.7466), f"{SEED}/metrics.json"),
    "a better mIoU of a protocol": (
        f"{SEED}/metrics.json",
        lambda d: d["protocols"][1].update(miou=0.7466),
        f"{SEED}/metrics.json: flip",
    ),
    "a category": (
        f"{SEED}/metrics_best.json",
        lambda d: d["protocols"][0]["category_iou"].update(flat=1.0),
        f"{SEED}/metrics_best.json: single_scale",
    ),
    "a kinder verdict": (
        "results/mini/verdict.json",
        lambda d: d.update(verdict="REPRODUCED"),
        "results/mini/verdict.json",
    ),
    "another recipe in the identity": (
        f"{SEED}/provenance.json",
        lambda d: d["identity"].update(recipe={}),
        f"{SEED}/provenance.json: run_hash",
    ),
    "other code": (
        f"{SEED}/provenance.json",
        lambda d: d["identity"].update(code="0" * 64),
        f"{SEED}/provenance.json: code",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_document_is_found(tmp_path, change):
    results = write_everything(tmp_path)
    file, edit, subject = CHANGES[change]
    edit_json(tmp_path / file, edit)
    assert look(results)[subject] == DIFFERS


@pytest.mark.parametrize(
    ("file", "subject"),
    [
        (f"{SEED}/model.pdparams", f"{SEED}/model.pdparams"),
        (f"{SEED}/best.pdparams", f"{SEED}/best.pdparams"),
        (f"{KEY}/labels/gtFine/val/frankfurt/{FRAME}_gtFine_labelTrainIds.png", f"{KEY}/labels"),
        (f"{KEY}/dataset/leftImg8bit/val/frankfurt/{FRAME}_leftImg8bit.png", f"{KEY}/dataset"),
    ],
)
def test_a_changed_file_is_found(tmp_path, file, subject):
    results = write_everything(tmp_path)
    with (tmp_path / file).open("ab") as handle:
        handle.write(b"x")
    assert look(results)[subject] == DIFFERS


@pytest.mark.parametrize("file", [f"{KEY}/manifest.json", f"{KEY}/lists-1/val.txt", f"{KEY}/lists-1/train.txt"])
def test_a_changed_input_is_no_longer_here(tmp_path, file):
    results = write_everything(tmp_path)
    with (tmp_path / file).open("a") as handle:
        handle.write("\n")
    assert NOT_HERE in look(results).values()


def test_results_without_their_resources_are_verified_as_far_as_they_go(tmp_path):
    results = write_everything(tmp_path)
    found = verify(results, resources=tmp_path / "none", dataset=None, digests=DIGESTS, log=lambda line: None)
    outcomes = {finding.outcome for finding in found}
    assert outcomes == {OK, NOT_HERE} and "derived again from" in as_table(found)
    with pytest.raises(InputError, match="no such folder"):
        verify(tmp_path / "nothing", resources=tmp_path, dataset=None, digests=DIGESTS, log=lambda line: None)


def test_program_ends_with_0_or_2_and_names_the_first_difference(tmp_path):
    results = write_everything(tmp_path)
    options = (results, "--resources", tmp_path / "resources")
    done = run_program("verify", *options)
    assert done.returncode == 0 and done.stdout.count("\nok ") >= 14, done.stdout + done.stderr
    (results / "seed0" / "model.pdparams").write_bytes(hashlib.sha256(b"x").digest())
    done = run_program("verify", *options)
    assert_refused(done, "1 of ", "model.pdparams: SHA-256 of what was evaluated")
    assert "DIFFERS" in done.stdout


def test_model_card_says_verdict_scores_and_origin(tmp_path):
    results = write_everything(tmp_path)
    verdict = json.loads((results / "verdict.json").read_text())
    done = run_program("model_card", results)
    assert done.returncode == 0, done.stderr
    card = done.stdout
    assert card.startswith("# mini\n") and f"**{verdict['verdict']}**" in card
    assert all(f"- {reason}" in card for reason in verdict["reasons"])
    final, best = (verdict["measured"][0][weights]["mean"] for weights in ("final", "best"))
    assert f"| single_scale | 1 | no | 1 | 128x64 | {final:.2f} | {best:.2f} |" in card
    assert "0123456789abcdef0123456789abcdef01234567" in card and "@software{stdc," in card
    run_program("model_card", results, "--output", tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == card
    (results / "verdict.json").write_text("{}")
    assert_refused(run_program("model_card", results), "verdict.json: name: missing")


def test_a_link_to_itself_is_no_absent_file(tmp_path):
    results = write_everything(tmp_path)
    for name in ("provenance.json", "metrics_best.json"):
        (results / "seed0" / name).unlink()
        (results / "seed0" / name).symlink_to(name)
    with pytest.raises(InputError, match="metrics_best"):
        read_seed(results / "seed0", 0)
    assert_refused(run_program("model_card", results), "provenance.json: ")
    assert_refused(run_program("verify", results), ".json: ")
