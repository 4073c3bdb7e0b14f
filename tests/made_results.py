"""A results folder with made-up figures of a plausible kind, for tests of the report that need no training."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from stdc import recipe
from stdc.data.labels import TRAIN_NAMES
from stdc.evaluation import metrics
from stdc.results.folder import ReportStage
from stdc.results.folder import report_stage as parsed

PROTOCOLS = (("single_scale", [1.0], False), ("flip", [1.0], True))


def confusion(skill: float, seed: int, pixels: int = 4_000_000) -> np.ndarray:
    """Counts of a network that gets a share `skill` of the common classes right, and less of the rare ones."""
    generator = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, 20) ** 1.3
    shares = shares[generator.permutation(19)] / shares.sum()
    rows = []
    for own, share in enumerate(shares):
        right = skill * (0.35 + 0.65 * (share / shares.max()) ** 0.25)
        spread = generator.dirichlet(np.full(19, 0.35)) * (1 - right)
        spread[own] += right
        rows.append(np.round(spread * share * pixels))
    return np.array(rows, np.int64)


def metrics_document(skill: float, frames: Sequence[str], size: Sequence[int], seed: int = 0) -> Dict[str, Any]:
    protocols = []
    for number, (name, scales, flip) in enumerate(PROTOCOLS):
        protocols.append(
            {
                **metrics.figures(confusion(skill + 0.015 * number, seed)),
                "images": len(frames),
                "image_names_sha256": hashlib.sha256(
                    "".join(f"{frame}\n" for frame in sorted(frames)).encode()
                ).hexdigest(),
                "protocol": {
                    "name": name,
                    "scales": scales,
                    "flip": flip,
                    "size": list(size),
                    "precision": "float32",
                    "weights_sha256": hashlib.sha256(str(skill).encode()).hexdigest(),
                    "backend": "paddle 3.3.1 cpu",
                },
            }
        )
    # Every image has its share of the counts, and some luck of its own.
    generator = np.random.default_rng(seed + 1)
    whole = metrics.overlaps(np.array(protocols[0]["confusion"], np.int64))
    per_image = []
    for index, frame in enumerate(sorted(frames)):
        union = (np.array(whole["union"]) / len(frames)).astype(int)
        luck = generator.uniform(0.8, 1.2)
        intersection = np.minimum(union, (luck * np.array(whole["intersection"]) / len(frames)).astype(int))
        per_image.append(
            {
                "frame": frame,
                "miou": round(skill * (0.6 + 0.4 * math.sin(1 + index)), 6),
                "pixel_accuracy": skill,
                "intersection": intersection.tolist(),
                "union": union.tolist(),
            }
        )
    return {**protocols[0], "protocols": protocols, "per_image": per_image}


def history(iterations: int, seed: int = 0) -> List[Dict[str, Any]]:
    generator = np.random.default_rng(seed)
    events: List[Dict[str, Any]] = []
    for iteration in range(10, iterations + 1, 10):
        done = iteration / iterations
        ohem = 2.9 * math.exp(-2.2 * done) + 0.35 + 0.06 * generator.standard_normal()
        bce, dice = 0.4 * math.exp(-done) + 0.02 * generator.standard_normal(), 0.55 - 0.2 * done
        events.append(
            {
                "iteration": iteration,
                "loss": round(3.1 * ohem + bce + dice, 6),
                "ohem": round(ohem, 6),
                "detail_bce": round(bce, 6),
                "detail_dice": round(dice, 6),
                "lr": 0.01 * (1 - (iteration - 1) / iterations) ** 0.9,
                "images_per_s": round(21 + generator.standard_normal(), 3),
                "reader_wait_share": round(0.03 + 0.01 * float(generator.random()), 4),
            }
        )
        if iteration % 40 == 0:
            miou = round(0.32 * (1 - math.exp(-2.5 * done)), 6)
            # The last class never occurs.
            shares = generator.uniform(0.5, 1.5, len(TRAIN_NAMES) - 1)
            scores = [round(min(1.0, miou * float(share)), 6) for share in shares] + [None]
            events.append({"iteration": iteration, "miou": miou, "class_iou": dict(zip(TRAIN_NAMES, scores))})
    return events


def write_seed(folder: Path, seed: int, frames: Sequence[str], size: Sequence[int], best: bool = True) -> None:
    """All result files of one seed, but for the weights."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, value: Any) -> None:
        # Sorted, as the programs write: the order of classes in a file is not that of the confusion matrix.
        (folder / name).write_text(json.dumps(value, sort_keys=True), encoding="utf-8")

    write("metrics.json", metrics_document(0.70 + 0.01 * seed, frames, size, seed))
    if best:
        write("metrics_best.json", metrics_document(0.72 + 0.01 * seed, frames, size, seed))
    lines = "".join(json.dumps(event, sort_keys=True) + "\n" for event in history(400, seed))
    (folder / "history.jsonl").write_text(lines, encoding="utf-8")
    write(
        "speed.json",
        {
            "inference": {
                "fps": 11.23,
                "latency_ms": {"p50": 88.1, "p95": 93.4, "p99": 97.0, "mean": 89.0},
                "size": list(size),
                "batch": 1,
                "warmup": 3,
                "iterations": 20,
                "precision": "float32",
                "backend": "paddle 3.3.1 cpu",
                "threads": 2,
                "method": "network and argmax, synchronized after each call",
            },
            "training": {
                "images_per_s": 21.4,
                "images_per_s_per_device": 10.7,
                "devices": 2,
                "reader_wait_share": 0.034,
                "intervals": 39,
            },
        },
    )
    write(
        "provenance.json",
        {
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "dirty": True,
            "command": ["python", "workflow/scripts/train.py", "--config", "results/mini/config/train.json"],
            "seed": seed,
            "run_hash": "ab" * 32,
            "manifest_sha256": "cd" * 32,
            "versions": {"python": "3.11.2", "paddlepaddle": "3.3.1", "numpy": "2.3.5"},
            "device": {"kind": "cpu", "name": "A processor", "environment": {"OMP_NUM_THREADS": "2"}},
            "hardware": {"device": "cpu", "devices": 2, "threads": 2, "workers": 1},
            "started": "2026-11-24T08:00:00+00:00",
            "finished": "2026-11-24T08:03:20+00:00",
        },
    )


def report_config(**changed: Any) -> Dict[str, Any]:
    config: Dict[str, Any] = {
        "name": "mini",
        "seeds": [0],
        "dataset_kind": "synthetic",
        "model": {"backbone": "stdc1", "pretrained": {"source": None, "sha256": None}},
        "train": {
            "preset": "paddleseg",
            "iterations": 400,
            "global_batch": 8,
            "crop_height": 64,
            "crop_width": 128,
            "ohem_min_kept": "pixels/16",
        },
        "evaluate": {"protocols": [{"name": name, "scales": s, "flip": f} for name, s, f in PROTOCOLS]},
        "data": {"expect": "any", "separator": ",", "subset": {"train": None, "val": None}},
        "report": {"overlays": 3},
    }
    config.update(changed)
    return config


def report_stage(**changed: Any) -> ReportStage:
    """The same, parsed."""
    return parsed(report_config(**changed), "report.json")


def manifest(train: int = 48, val: int = 16, val_names: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    """A manifest of frames that are nowhere; `val_names` names those of the validation split."""
    train_names = [f"aachen_{number:06d}_000019" for number in range(train)]
    val_names = [f"frankfurt_000000_{number:06d}" for number in range(val)] if val_names is None else val_names
    val = len(val_names)
    named = [("train", name) for name in train_names] + [("val", name) for name in val_names]
    return {
        "format": 1,
        "expected": "any",
        "label_source": "labelIds",
        "splits": {
            "train": {"cities": {"aachen": train // 2, "bochum": train - train // 2}, "frames": train},
            "val": {"cities": {"frankfurt": val}, "frames": val},
        },
        "sizes": [[128, 256]],
        "frames": [
            {
                "frame": name,
                "city": name.split("_")[0],
                "split": split,
                "size": [128, 256],
                "image": {
                    "path": f"leftImg8bit/{split}/{name.split('_')[0]}/{name}_leftImg8bit.png",
                    "sha256": f"{number:064x}",
                },
            }
            for number, (split, name) in enumerate(named)
        ],
    }


def write_list(path: Path, frames: Sequence[str]) -> None:
    """A validation list of frames that are nowhere."""
    lines = []
    for frame in frames:
        city = frame.split("_")[0]
        image = f"leftImg8bit/val/{city}/{frame}_leftImg8bit.png"
        lines.append(f"{image},gtFine/val/{city}/{frame}_gtFine_labelTrainIds.png\n")
    path.write_text("".join(lines), encoding="utf-8")


def tie(results: Path, config: Dict[str, Any], manifest_path: Path, lists: Dict[str, Path]) -> None:
    """Make the files of a results folder tell one story: hashes of the files that are there, the recipe, the seed."""

    def sha256(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    for seed in config["seeds"]:
        folder = results / f"seed{seed}"
        for name, weights in (("metrics.json", "model.pdparams"), ("metrics_best.json", "best.pdparams")):
            if (folder / name).exists() and (folder / weights).exists():
                metrics = json.loads((folder / name).read_text(encoding="utf-8"))
                for entry in (metrics, *metrics["protocols"]):
                    entry["protocol"]["weights_sha256"] = sha256(folder / weights)
                (folder / name).write_text(json.dumps(metrics, sort_keys=True), encoding="utf-8")
        if (folder / "provenance.json").exists():
            provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
            provenance.update(
                seed=seed,
                manifest_sha256=sha256(manifest_path),
                recipe=recipe.resolve(config["train"]).as_dict(),
                identity={
                    "inputs": {
                        "manifest": sha256(manifest_path),
                        **{f"{split}_list": sha256(path) for split, path in lists.items()},
                    },
                    "network": {"backbone": config["model"]["backbone"], "pool_counts_padding": False},
                },
            )
            (folder / "provenance.json").write_text(json.dumps(provenance, sort_keys=True), encoding="utf-8")
