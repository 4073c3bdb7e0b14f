"""Whether a results folder holds together: every figure that can be derived again, and every digest of a file here.

Nothing is fetched and nothing is trained: scores come from the stored integer counts, the verdict from the scores, and
digests from the files that stand in this working directory.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from stdc.data.convert import raster_path
from stdc.errors import InputError
from stdc.evaluation.metrics import figures
from stdc.files import canonical_json, read_json, sha256_file, sha256_text
from stdc.progress import Log
from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.results.folder import (
    ReportStage,
    Results,
    read_dataset_manifest,
    read_metrics,
    read_report_stage,
    read_seed,
    require_folder,
)

OK, DIFFERS, NOT_HERE = "ok", "DIFFERS", "not here"

#: Tolerance between a stored score and the one derived again.
_SAME = 1e-12

#: What follows from the counts of a protocol alone. iIoU needs the sizes of the objects, which are not stored.
_DERIVED = ("miou", "class_iou", "category_iou", "pixel_accuracy")

#: Of many files that differ, so many are named.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `outcome` is OK, DIFFERS, or NOT_HERE where the file is somewhere else."""

    outcome: str
    subject: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Digests:
    """Digests of the code in this checkout, by their names in a run's identity."""

    code: str
    evaluation_code: str

    def of(self, key: str) -> str:
        """The digest that a key of the identity is compared with."""
        return self.code if key == "code" else self.evaluation_code


def verify(folder: Path, *, resources: Path, dataset: Optional[Path], digests: Digests, log: Log) -> List[Finding]:
    """Look at a results folder and at what it was made from.

    Args:
        folder: `results/<name>`.
        resources: folder with what was made from datasets: manifests, rasters, lists.
        dataset: root of the dataset; None: `resources/<key>/dataset`, if it is there.
        digests: of the code in this checkout.
        log: receives a line before what takes long.
    Raises:
        InputError: no results folder, or a file of it is damaged.
    """
    require_folder(folder)
    stage = read_report_stage(folder / "config" / "report.json")
    findings: List[Finding] = []
    manifest_path = None
    for seed in stage.run.seeds:
        place = folder / f"seed{seed}"
        for metrics, weights in (("metrics.json", "model.pdparams"), ("metrics_best.json", "best.pdparams")):
            if metrics == "metrics.json" or os.path.lexists(place / metrics):
                findings += _scores(place / metrics, place / weights)
        if stage.given_weights is None:
            provenance = _object(place / "provenance.json")
            findings += _identity(place / "provenance.json", provenance, digests)
            manifest_path, found = _inputs(place / "provenance.json", provenance, resources)
        else:
            findings.append(_given_weights(place / "weights.json", resources))
            manifest_path, found = _evaluated(place / "metrics.json", resources)
        findings += found
    if manifest_path is not None:
        findings.append(_verdict(folder, stage, manifest_path))
        log("looking at the rasters and at the dataset")
        findings += _rasters(manifest_path)
        findings.append(_dataset(manifest_path, dataset or manifest_path.parent / "dataset"))
    else:
        findings.append(Finding(NOT_HERE, f"{folder / 'verdict.json'}", "derived from a manifest that is not here"))
    return findings


def as_table(findings: Sequence[Finding]) -> str:
    """One line per finding."""
    rows = [(finding.outcome, finding.subject, finding.detail) for finding in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows)


# ---- figures


def _scores(path: Path, weights: Path) -> Iterator[Finding]:
    metrics = read_metrics(path)
    # The first protocol is repeated at the top of the file.
    entries = [(str(path), metrics)]
    entries += [(f"{path}: {entry['protocol'].get('name')}", entry) for entry in metrics.get("protocols") or ()]
    for subject, entry in entries:
        confusion = entry.get("confusion")
        if confusion is None:
            yield Finding(NOT_HERE, subject, "no counts are stored for this protocol")
            continue
        derived = figures(np.array(confusion, np.int64))
        wrong = [key for key in _DERIVED if not _same(entry, derived, key)]
        if wrong:
            yield Finding(DIFFERS, subject, f"{', '.join(wrong)}: not what the integer counts give")
        else:
            score = "none" if derived["miou"] is None else f"{100 * derived['miou']:.4f} %"
            yield Finding(OK, subject, f"mIoU {score} derived again from {int(np.sum(confusion)):,} counted pixels")
    yield _digest(weights, str(metrics["protocol"].get("weights_sha256")), "what was evaluated")


def _same(entry: Mapping[str, Any], derived: Mapping[str, Any], key: str) -> bool:
    """Whether a stored figure, or each of several by name, is the derived one; one that is not stored is."""
    if key not in entry:
        return True
    stored, found = entry[key], derived[key]
    pairs = [(stored, found)] if not isinstance(found, dict) else [(stored.get(name), found[name]) for name in found]
    return all((one is None) == (other is None) and (one is None or abs(one - other) <= _SAME) for one, other in pairs)


def _verdict(folder: Path, stage: ReportStage, manifest: Path) -> Finding:
    path = folder / "verdict.json"
    if not path.exists():
        return Finding(NOT_HERE, str(path), "")
    seeds = [read_seed(folder / f"seed{seed}", seed) for seed in stage.run.seeds]
    results = Results(stage, read_dataset_manifest(manifest), sha256_file(manifest), seeds)
    derived, stored = judge(results.evidence(), load_reference()), read_json(path)
    if not isinstance(stored, dict):
        return Finding(DIFFERS, str(path), "no verdict")
    # As text: a tuple and a list are one thing in JSON.
    differing = sorted(key for key in {*derived, *stored} if _text(derived.get(key)) != _text(stored.get(key)))
    if differing:
        return Finding(DIFFERS, str(path), f"derived again from the metrics, {', '.join(differing)} come out otherwise")
    return Finding(OK, str(path), f"{derived['verdict']}, derived again from the metrics")


def _text(value: Any) -> str:
    return canonical_json(value)


# ---- digests


def _identity(path: Path, provenance: Mapping[str, Any], digests: Digests) -> Iterator[Finding]:
    """The run's hash, and the code that this checkout has against the code that trained."""
    identity = provenance.get("identity")
    if not isinstance(identity, dict):
        yield Finding(NOT_HERE, f"{path}: identity", "")
        return
    try:
        right = sha256_text(canonical_json(identity)) == provenance.get("run_hash")
    except ValueError:
        right = False
    yield Finding(OK if right else DIFFERS, f"{path}: run_hash", "of the identity beside it")
    for key, words in (("code", "what decides the weights"), ("evaluation_code", "what chooses the best weights")):
        expected = identity.get(key)
        if expected is None:
            continue
        same = expected == digests.of(key)
        detail = f"{words} is the code of this checkout" if same else f"{words} is other code here{_at(provenance)}"
        yield Finding(OK if same else DIFFERS, f"{path}: {key}", detail)


def _at(provenance: Mapping[str, Any]) -> str:
    commit = provenance.get("commit")
    return f"; it was trained at commit {str(commit)[:12]}" if commit else ""


def _inputs(path: Path, provenance: Mapping[str, Any], resources: Path) -> Tuple[Optional[Path], List[Finding]]:
    """Manifest, lists, rasters and weights to start from, by their digests: (the manifest's path, findings)."""
    identity = provenance.get("identity")
    inputs = identity.get("inputs") if isinstance(identity, dict) else None
    inputs = inputs if isinstance(inputs, dict) else {}
    wanted = inputs.get("manifest") or provenance.get("manifest_sha256")
    manifest = _with_digest(resources.glob("*/manifest.json"), wanted)
    findings = [_located(path, "manifest", wanted, manifest)]
    beside = manifest.parent if manifest else resources
    for key in ("train_list", "val_list"):
        if inputs.get(key):
            name = f"{key.split('_')[0]}.txt"
            pattern = f"lists-*/{name}" if manifest else f"*/lists-*/{name}"
            findings.append(_located(path, key, inputs[key], _with_digest(beside.glob(pattern), inputs[key])))
    if inputs.get("labels") and manifest:
        index = manifest.parent / "labels.json"
        pixels = _object(index).get("pixels")
        same = isinstance(pixels, dict) and sha256_text(canonical_json(pixels)) == inputs["labels"]
        found = Finding(OK, f"{path}: labels", str(index)) if same else None
        findings.append(found or Finding(DIFFERS, f"{path}: labels", f"{index} names other rasters"))
    if inputs.get("backbone"):
        files = [file for file in resources.glob("**/backbone*") if file.is_file()]
        findings.append(_located(path, "backbone", inputs["backbone"], _with_digest(files, inputs["backbone"])))
    return manifest, findings


def _given_weights(path: Path, resources: Path) -> Finding:
    """The file with weights that were judged without a training, where it still is."""
    record = _object(path)
    subject = f"{path}: sha256"
    if not record.get("sha256"):
        return Finding(NOT_HERE, subject, "")
    file = Path(str(record.get("source"))).expanduser()
    if file.is_file():
        return Finding(OK if sha256_file(file) == record["sha256"] else DIFFERS, subject, f"of {file}")
    # Weights by a registry's name: a download is deleted, a file that was placed by hand is still there.
    placed = [one for one in (resources / "weights" / "downloads").glob("*") if one.is_file()]
    return _located(path, "sha256", record["sha256"], _with_digest(placed, record["sha256"]))


def _evaluated(path: Path, resources: Path) -> Tuple[Optional[Path], List[Finding]]:
    """Manifest and list that an evaluation names: (the manifest's path, findings)."""
    metrics = _object(path)
    manifest = _with_digest(resources.glob("*/manifest.json"), metrics.get("manifest_sha256"))
    beside = manifest.parent if manifest else resources
    val_list = _with_digest(beside.glob("**/lists-*/val.txt"), metrics.get("list_sha256"))
    return manifest, [
        _located(path, "manifest_sha256", metrics.get("manifest_sha256"), manifest),
        _located(path, "list_sha256", metrics.get("list_sha256"), val_list),
    ]


def _located(path: Path, key: str, wanted: Any, found: Optional[Path]) -> Finding:
    subject = f"{path}: {key}"
    if found is not None:
        return Finding(OK, subject, str(found))
    return Finding(NOT_HERE, subject, f"no file here has SHA-256 {wanted[:12]}…" if wanted else "not recorded")


def _with_digest(paths: Any, wanted: Any) -> Optional[Path]:
    return next((path for path in sorted(paths) if sha256_file(path) == wanted), None)


def _digest(path: Path, wanted: str, words: str) -> Finding:
    if not path.exists():
        return Finding(NOT_HERE, str(path), words)
    return Finding(OK if sha256_file(path) == wanted else DIFFERS, str(path), f"SHA-256 of {words}")


def _rasters(manifest: Path) -> Iterator[Finding]:
    index = _object(manifest.parent / "labels.json")
    digests = index.get("frames")
    subject = str(manifest.parent / "labels")
    if not isinstance(digests, dict):
        yield Finding(NOT_HERE, subject, "no index of rasters beside the manifest")
        return
    same = index.get("manifest_sha256") == sha256_file(manifest)
    yield Finding(OK if same else DIFFERS, f"{manifest.parent / 'labels.json'}", "made from the manifest beside it")
    entries = read_dataset_manifest(manifest).get("frames") or []
    files = {
        manifest.parent / "labels" / raster_path(entry): digests.get(f"{entry['split']}/{entry['frame']}")
        for entry in entries
        if f"{entry['split']}/{entry['frame']}" in digests and "city" in entry
    }
    yield _many(subject, "rasters", files)


def _dataset(manifest: Path, root: Path) -> Finding:
    if not root.is_dir():
        return Finding(NOT_HERE, "dataset", "its root is not known; name it by --dataset")
    files: Dict[Path, Any] = {}
    for entry in read_dataset_manifest(manifest).get("frames") or []:
        for kind in ("image", "label", "instance"):
            file = entry.get(kind)
            if isinstance(file, dict) and isinstance(file.get("path"), str):
                files[root / file["path"]] = file.get("sha256")
    return _many(str(root), "files of the dataset", files)


def _many(subject: str, words: str, files: Mapping[Path, Any]) -> Finding:
    """One finding for many files."""
    missing = [path for path in files if not path.is_file()]
    wrong = [path for path, digest in files.items() if path.is_file() and sha256_file(path) != digest]
    if wrong or (missing and len(missing) < len(files)):
        bad = wrong + missing
        named = ", ".join(str(path) for path in bad[:_NAMED]) + (", …" if len(bad) > _NAMED else "")
        counts = f"{len(wrong)} of {len(files)} {words} differ, {len(missing)} are missing"
        return Finding(DIFFERS, subject, f"{counts}: {named}")
    if missing:
        return Finding(NOT_HERE, subject, f"{len(files)} {words}")
    return Finding(OK, subject, f"{len(files)} {words}")


def _object(path: Path) -> Dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not path.exists():
        return {}
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path}: {type(document).__name__} found, a JSON object is expected")
    return document
