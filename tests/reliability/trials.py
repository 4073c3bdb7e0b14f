"""A training job on a tiny dataset that a test starts, kills and starts again."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from families import Family
from programs import SCRIPTS, run_program
from tiny import make_tiny_dataset

#: Differ between equal runs.
TIMINGS = ("images_per_s", "reader_wait_share", "time")

TRAIN: Mapping[str, Any] = {
    "preset": "paddleseg",
    "iterations": 24,
    "global_batch": 2,
    "crop_height": 64,
    "crop_width": 64,
    "save_interval": 2,
    "keep_checkpoint_max": 2,
    "evaluate": True,
    "eval_interval": 12,
    "log_interval": 3,
    "visualdl": False,
    "prediction_images": 0,
}


class TrainingTrial:
    """Inputs of a training job, made once, and the commands that start it.

    Args:
        folder: for everything.
        train: keys of the section `train` that differ from TRAIN.
    """

    def __init__(self, folder: Path, train: Optional[Mapping[str, Any]] = None) -> None:
        self.folder = folder
        self.dataset = make_tiny_dataset(folder / "dataset", height=64, width=128)
        manifest, index = ["--manifest", folder / "manifest.json"], ["--index", folder / "labels.json"]
        dataset = ["--dataset", self.dataset]
        for program, arguments in (
            ("check_dataset", [*dataset, "--output", folder / "manifest.json"]),
            ("convert_labels", [*dataset, *manifest, *index, "--output", folder / "labels"]),
            ("create_lists", [*manifest, *index, "--output", folder / "lists"]),
        ):
            result = run_program(program, *arguments)
            assert result.returncode == 0, result.stderr
        self.configure({})
        if train:
            self.configure(train)

    def configure(self, train: Mapping[str, Any]) -> None:
        """Write the stage configuration."""
        model = {"backbone": "stdc1", "pretrained": {"source": None, "sha256": None}}
        config = {"model": model, "train": {**TRAIN, **train}, "data": {"separator": ","}}
        (self.folder / "train.json").write_text(json.dumps(config), encoding="utf-8")

    def command(self, name: str, workers: int = 0, devices: int = 1, runs: Optional[Path] = None) -> List[str]:
        """The command line of the run `name`; its outputs and checkpoints lie in a folder of that name."""
        place = self.folder / name
        command = [sys.executable, SCRIPTS / "train.py", "--config", "train.json", "--dataset", self.dataset]
        command += [
            "--labels",
            "labels",
            "--manifest",
            "manifest.json",
            "--index",
            "labels.json",
            "--train-list",
            "lists/train.txt",
        ]
        command += ["--val-list", "lists/val.txt", "--seed", 5, "--runs", runs or place / "runs", "--threads", 1]
        command += ["--workers", workers, "--devices", devices, "--model", place / "model.pdparams"]
        command += ["--best", place / "best.pdparams", "--history", place / "history.jsonl"]
        command += ["--provenance", place / "provenance.json", "--log", place / "log"]
        return list(map(str, command))

    def start(self, name: str, workers: int = 0, devices: int = 1, **environment: str) -> Family:
        """Start the run, or go on with it."""
        (self.folder / name).mkdir(exist_ok=True)
        command = self.command(name, workers, devices)
        return Family(command, self.folder, self.folder / name / "said", environment)

    def finish(self, name: str, workers: int = 0, devices: int = 1, limit_s: float = 240) -> Dict[str, Any]:
        """Start the run and let it end; what it made."""
        family = self.start(name, workers, devices)
        try:
            code = family.wait(limit_s)
            assert code == 0, f"exit code {code}\n{family.text()[-4000:]}"
            return self.results(name)
        finally:
            family.end()

    def results(self, name: str) -> Dict[str, Any]:
        """Digests of the weights, and the history without timings."""
        place = self.folder / name
        digests: Dict[str, Any] = {
            weights: hashlib.sha256((place / f"{weights}.pdparams").read_bytes()).hexdigest()
            for weights in ("model", "best")
        }
        return {**digests, "history": history(place / "history.jsonl")}

    def run_folder(self, name: str) -> Optional[Path]:
        """The run folder of `name`, once there is one."""
        found = sorted((self.folder / name / "runs").glob("*"))
        return found[0] if found else None

    def saved(self, name: str) -> int:
        """Iteration of the newest whole checkpoint; 0 for none."""
        folder = self.run_folder(name)
        manifests = folder.glob("checkpoints/[0-9]*/manifest.json") if folder else ()
        return max((int(path.parent.name) for path in manifests), default=0)


def history(path: Path) -> List[Dict[str, Any]]:
    """Events of a history file without what differs between equal runs."""
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in event.items() if key not in TIMINGS} for event in events]
