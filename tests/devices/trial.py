"""A tiny dataset, and the programs of a run on it by an interpreter and a device of the test's choice."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from programs import SCRIPTS
from tiny import make_tiny_dataset

REPOSITORY = Path(__file__).resolve().parents[2]

MODEL: Dict[str, Any] = {"backbone": "stdc1", "pretrained": {"source": None, "sha256": None}}
TRAIN: Dict[str, Any] = {
    "preset": "paddleseg",
    "iterations": 3,
    "global_batch": 4,
    "crop_height": 32,
    "crop_width": 64,
    "save_interval": 3,
    "keep_checkpoint_max": 1,
    "evaluate": True,
    "eval_interval": 3,
    "log_interval": 1,
    "visualdl": False,
    "prediction_images": 0,
}
PROTOCOLS = [{"name": "full", "scales": [1.0], "flip": False}, {"name": "flip", "scales": [0.5, 1.0], "flip": True}]
SPEED = {"height": 64, "width": 128, "batch": 1, "warmup": 1, "iterations": 2}

Result = subprocess.CompletedProcess  # of str


class Trial:
    """One dataset, made once; each run has a folder of its own.

    Args:
        folder: for the dataset and what is made of it.
        python: interpreter of the programs under trial.
        environment: variables to add to this process's own.
        generated: section `synthetic` of the dataset; None: a few tiny frames.
    """

    def __init__(
        self,
        folder: Path,
        python: str = sys.executable,
        environment: Optional[Mapping[str, str]] = None,
        generated: Optional[Mapping[str, int]] = None,
    ):
        self.folder, self.python = folder, python
        own = dict(os.environ)
        if "paddle" in sys.modules:
            # Importing Paddle leaves its own folder of plug-ins in this process's environment.
            own.pop("CUSTOM_DEVICE_ROOT", None)
        self.environment = {**own, "OMP_NUM_THREADS": "1", **(environment or {})}
        if not (folder / "lists").exists():
            self._prepare(generated)

    def _prepare(self, generated: Optional[Mapping[str, int]]) -> None:
        if generated is None:
            make_tiny_dataset(self.folder / "dataset")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            config = self.folder / "synthetic.json"
            config.write_text(json.dumps({"synthetic": generated}))
            self._done("make_synthetic", "--config", config, "--processes", os.cpu_count() or 1,
                       "--output", self.folder / "dataset", "--index", self.folder / "dataset.json")  # fmt: skip
        inside = {name: self.folder / name for name in ("dataset", "manifest.json", "labels", "labels.json", "lists")}
        manifest, labels, index = inside["manifest.json"], inside["labels"], inside["labels.json"]
        self._done("check_dataset", "--dataset", inside["dataset"], "--output", manifest)
        self._done("convert_labels", "--dataset", inside["dataset"], "--manifest", manifest, "--output", labels,
                   "--index", index)  # fmt: skip
        self._done("create_lists", "--manifest", manifest, "--index", index, "--output", inside["lists"])

    def _done(self, program: str, *arguments: object) -> None:
        result = self.run(program, *arguments)
        assert result.returncode == 0, result.stderr

    def command(self, program: str, *arguments: object) -> List[str]:
        return [self.python, str(SCRIPTS / f"{program}.py"), *map(str, arguments)]

    def run(self, program: str, *arguments: object, timeout_s: float = 300) -> Result:
        return subprocess.run(
            self.command(program, *arguments),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment,
            check=False,
        )

    def train_arguments(self, out: Path, device: str, devices: int, **train: Any) -> Tuple[object, ...]:
        out.mkdir(parents=True, exist_ok=True)
        config = out / "train.json"
        document = {"model": MODEL, "train": {**TRAIN, **train}, "data": {"separator": ","}}
        config.write_text(json.dumps(document))
        return (
            "--config", config, "--dataset", self.folder / "dataset", "--labels", self.folder / "labels",
            "--manifest", self.folder / "manifest.json", "--index", self.folder / "labels.json",
            "--train-list", self.folder / "lists" / "train.txt",
            "--val-list", self.folder / "lists" / "val.txt", "--seed", 0, "--runs", out / "runs",
            "--model", out / "model.pdparams", "--best", out / "best.pdparams", "--history", out / "history.jsonl",
            "--provenance", out / "provenance.json", "--device", device, "--devices", devices, "--threads", 1,
        )  # fmt: skip

    def train(self, out: Path, device: str, devices: int, **train: Any) -> Result:
        return self.run("train", *self.train_arguments(out, device, devices, **train))

    def evaluate(self, out: Path, output: Path, device: str, devices: int) -> Result:
        """Evaluate the weights that a training left in `out`."""
        config = out / "evaluate.json"
        sections = {"model": MODEL, "train": TRAIN, "evaluate": {"protocols": PROTOCOLS}, "data": {"separator": ","}}
        config.write_text(json.dumps(sections))
        return self.run(
            "evaluate", "--config", config, "--weights", out / "model.pdparams", "--dataset", self.folder / "dataset",
            "--labels", self.folder / "labels", "--list", self.folder / "lists" / "val.txt",
            "--manifest", self.folder / "manifest.json", "--index", self.folder / "labels.json",
            "--output", output, "--device", device,
            "--devices", devices, "--threads", 1,
        )  # fmt: skip

    def measure_speed(self, out: Path, output: Path, device: str, **speed: int) -> Result:
        """Measure the speed of the weights that a training left in `out`."""
        config = out / "speed.json"
        config.write_text(json.dumps({"model": MODEL, "train": TRAIN, "speed": {**SPEED, **speed}}))
        return self.run(
            "measure_speed", "--config", config, "--weights", out / "model.pdparams",
            "--history", out / "history.jsonl", "--provenance", out / "provenance.json", "--output", output,
            "--device", device, "--threads", 1,
        )  # fmt: skip


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def succeeded(result: Result) -> None:
    assert result.returncode == 0, result.stderr[-3000:]
