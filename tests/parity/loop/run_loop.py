"""Train beside PaddleSeg, loop against loop, and judge all weights by one program.

    python tests/parity/loop/run_loop.py                                  # nine trainings, two hours on one core
    python tests/parity/loop/run_loop.py --seeds 5 --docs docs/fidelity.md

Three sides: this code, PaddleSeg with the kernel that its detail loss draws at random, and PaddleSeg with the authors'
kernel. Each is trained from random weights by its own loop, on the same images and the same rasters of train ids; all
weights go through `workflow/scripts/evaluate.py`, so nothing but the training differs. One process at a time, one
thread. A finished training leaves one JSON; a restart skips it. Seed 0 of all sides comes first,
then seed 1, and so on.

The footage is $STDC_REAL_DATA or --dataset, in the layout of Cityscapes; it is only read. Needs the environment of the
peers for both sides, so that they compute with the same Paddle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.path[:0] = [str(HERE), str(REPOSITORY)]

import loop_results  # noqa: E402

from stdc import files  # noqa: E402

BEGIN, END = "<!-- loop parity: begin, written by tests/parity/loop/run_loop.py -->", "<!-- loop parity: end -->"


class Campaign:
    """The trainings of one job.

    Args:
        dataset: the footage.
        output: folder of everything that is made.
        job: iterations, batch, crop_width, crop_height.
    """

    def __init__(self, dataset: Path, output: Path, job: Dict[str, Any]) -> None:
        self.dataset, self.output, self.job = dataset, output, job
        self.shared = output / "shared"
        self.environment = dict(
            os.environ,
            OMP_NUM_THREADS="1",
            # Intel's library then takes the same kernels on processors of AMD.
            MKL_DEBUG_CPU_TYPE="5",
            PYTHONWARNINGS="ignore",
            GLOG_minloglevel="2",
        )

    def run(self, program: Path, *arguments: object, log: Path) -> None:
        """Run a program to its end.

        Raises:
            SystemExit: it failed; its last lines are shown.
        """
        with log.open("ab") as stream:
            command = [sys.executable, str(program), *map(str, arguments)]
            code = subprocess.run(
                command, cwd=REPOSITORY, env=self.environment, stdout=stream, stderr=stream, check=False
            ).returncode
        if code:
            last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
            sys.exit(f"run_loop.py: {program.name} ended with {code}:\n{last}")

    def script(self, name: str, *arguments: object, log: Path) -> None:
        """Run a program of the workflow."""
        self.run(REPOSITORY / "workflow" / "scripts" / f"{name}.py", *arguments, log=log)

    def prepare(self) -> None:
        """Check and convert the footage, and lay it out for PaddleSeg. Adds the number of images to the job."""
        shared, log = self.shared, self.shared / "prepare.log"
        shared.mkdir(parents=True, exist_ok=True)
        manifest, index = shared / "manifest.json", shared / "labels.json"
        if not (shared / "lists" / "train.txt").exists():
            self.script("check_dataset", "--dataset", self.dataset, "--output", manifest, log=log)
            arguments = ["--dataset", self.dataset, "--manifest", manifest, "--output", shared / "labels"]
            self.script("convert_labels", *arguments, "--index", index, log=log)
            self.script("create_lists", "--manifest", manifest, "--index", index, "--output", shared / "lists", log=log)
        # PaddleSeg wants images and rasters under one root.
        root = shared / "peer_dataset"
        root.mkdir(exist_ok=True)
        for name, target in (("leftImg8bit", self.dataset / "leftImg8bit"), ("gtFine", shared / "labels" / "gtFine")):
            if not target.is_dir():
                sys.exit(f"run_loop.py: {target} is no folder")
            if not (root / name).is_symlink():
                (root / name).symlink_to(target.resolve())
        lines = (shared / "lists" / "train.txt").read_text(encoding="utf-8").splitlines()
        self.job["train_images"] = len(lines)
        common = {"model": {"backbone": "stdc1"}, "data": {"separator": ","}}
        train = {
            "preset": "paddleseg",
            "iterations": self.job["iterations"],
            "global_batch": self.job["batch"],
            "crop_height": self.job["crop_height"],
            "crop_width": self.job["crop_width"],
            "save_interval": self.job["iterations"],
            "evaluate": False,
            "visualdl": False,
            "log_interval": 10,
        }
        protocols = [{"name": "single_scale", "scales": [1.0], "flip": False}]
        evaluate = {"compared_images": 0, "protocols": protocols}
        files.write_json(shared / "job.json", self.job)
        files.write_json(shared / "train.json", {**common, "train": train})
        files.write_json(shared / "evaluate.json", {**common, "train": train, "evaluate": evaluate})

    def train(self, side: str, seed: int) -> loop_results.Result:
        """The result of one training; made where it is not there yet."""
        path = self.output / f"{side}-seed{seed}.json"
        found = loop_results.read_result(path, side, seed, self.job)
        if found is not None:
            return found
        folder, began = self.output / f"{side}-seed{seed}", time.monotonic()
        folder.mkdir(exist_ok=True)
        weights = self._train_ours(folder, seed) if side == "ours" else self._train_peer(side, folder, seed)
        trained_s = time.monotonic() - began
        self._evaluate(weights, folder)
        metrics = files.read_json(folder / "metrics.json")
        if side == "ours":
            lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
            kernel, losses = None, [line for line in map(json.loads, lines) if "loss" in line]
        else:
            peer = files.read_json(folder / "losses.json")
            kernel, losses = peer["kernel"], peer["losses"]
        figures = {name: metrics[name] for name in loop_results.FIGURES}
        found = loop_results.Result(side, seed, self.job, figures, losses, kernel)
        files.write_json(path, {**found._asdict(), "class_iou": metrics["class_iou"], "training_s": round(trained_s)})
        print(f"{side}, seed {seed}: {figures}, trained in {trained_s:.0f} s", flush=True)
        return found

    def _inputs(self) -> List[object]:
        shared = self.shared
        return [
            *("--dataset", self.dataset, "--labels", shared / "labels"),
            *("--manifest", shared / "manifest.json", "--index", shared / "labels.json"),
        ]

    def _train_ours(self, folder: Path, seed: int) -> Path:
        weights, lists = folder / "model.pdparams", self.shared / "lists"
        self.script(
            "train",
            *("--config", self.shared / "train.json", *self._inputs()),
            *("--train-list", lists / "train.txt", "--val-list", lists / "val.txt"),
            *("--seed", seed, "--runs", folder / "runs", "--device", "cpu", "--threads", 1, "--workers", 0),
            *("--model", weights, "--history", folder / "history.jsonl", "--provenance", folder / "provenance.json"),
            log=folder / "train.log",
        )
        return weights

    def _train_peer(self, side: str, folder: Path, seed: int) -> Path:
        self.run(
            HERE / "peer_loop.py",
            *("--job", self.shared / "job.json", "--dataset", self.shared / "peer_dataset"),
            *("--kernel", "drawn" if side == "paddleseg" else "authors", "--seed", seed, "--output", folder),
            *(["--reorder"] if side == "paddleseg-reordered" else []),
            log=folder / "train.log",
        )
        return folder / "weights" / f"iter_{self.job['iterations']}" / "model.pdparams"

    def _evaluate(self, weights: Path, folder: Path) -> None:
        self.script(
            "evaluate",
            *("--config", self.shared / "evaluate.json", *self._inputs()),
            *("--list", self.shared / "lists" / "val.txt", "--weights", weights, "--threads", 1),
            *("--output", folder / "metrics.json"),
            log=folder / "evaluate.log",
        )


def write_docs(page: Path, text: str) -> None:
    """Put the table between its two marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="the footage (default: $STDC_REAL_DATA, or the shared one)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "results" / "parity-loop", help="what is made")
    parser.add_argument("--seeds", type=int, default=3, help="trainings per side (default: 3)")
    sides = {"choices": list(loop_results.SIDES), "default": list(loop_results.DEFAULT_SIDES)}
    parser.add_argument("--sides", nargs="+", **sides, help="which trainings (default: the first three)")
    parser.add_argument("--iterations", type=int, default=300, help="steps (default: 300)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="also write the table into this page")
    options = parser.parse_args()
    named = options.dataset or (Path(os.environ["STDC_REAL_DATA"]) if os.environ.get("STDC_REAL_DATA") else None)
    dataset = named or REPOSITORY.parent / "shared" / "data" / "camvid_cityscapes"
    if not (dataset / "leftImg8bit").is_dir():
        message = (
            f"NO REAL FOOTAGE: {dataset} has no leftImg8bit; name a folder in the layout of Cityscapes by --dataset"
        )
        print(f"run_loop.py: {message}", file=sys.stderr)
        return 2 if named else 0
    job = {"iterations": options.iterations, "batch": 4, "crop_width": 320, "crop_height": 240}
    campaign = Campaign(dataset.resolve(), options.output.resolve(), job)
    campaign.prepare()
    try:
        found = [campaign.train(side, seed) for seed in range(options.seeds) for side in options.sides]
    except ValueError as error:
        print(f"run_loop.py: {error}", file=sys.stderr)
        return 2
    text = loop_results.table(found)
    print(text)
    if options.docs:
        write_docs(options.docs, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
