"""What the cases spoil: a sound dataset, what the intake makes of it, checkpoints, and files for every program."""

from __future__ import annotations

from pathlib import Path
from typing import List

import documents
import numpy as np
from judging import Run, run_script
from tiny import make_tiny_dataset

from stdc.training import checkpoints


class Templates:
    """Sound material, made once, copied for each case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datasets = {
            "label ids": make_tiny_dataset(folder / "ids"),
            "polygons": make_tiny_dataset(folder / "polygons", label_ids=False, instance_ids=False),
            "wrapped": make_tiny_dataset(folder / "wrapped", wrappers=True, seed=1),
        }
        self.work = folder / "work"
        self.intake(self.datasets["label ids"], self.work)
        generator = np.random.default_rng(0)
        self.arrays = {
            f"stage{index}.{leaf}": generator.standard_normal(shape).astype(np.float32)
            for index in range(4)
            for leaf, shape in (("weight", (4, 3, 3, 3)), ("bias", (4,)), ("_mean", ()))
        }
        self.checkpoints = folder / "checkpoints"
        for iteration in (2, 4, 6):
            arrays = {name: array * iteration for name, array in self.arrays.items()}
            state = {"best": None, "sums": {"loss": 0.1 * iteration}, "summed": 1}
            saved = checkpoints.Checkpoint(iteration, arrays, arrays, state, f'{{"iteration": {iteration}}}\n')
            checkpoints.save(self.checkpoints, saved, "a" * 64, keep=5)
        self.documents = folder / "documents"

    def make_documents(self) -> None:
        """What `case_document` spoils; takes Paddle, so it is made where it is needed."""
        from stdc.machine import devices

        devices.prepare("cpu", 1)
        from stdc.nn.segmentor import build_segmentor
        from stdc.nn.state import state_arrays, with_unused_heads

        weights = with_unused_heads(state_arrays(build_segmentor("stdc1")))
        documents.make_sound(self.documents, self.datasets["label ids"], self.work, weights)

    @staticmethod
    def intake(root: Path, work: Path) -> List[Run]:
        """The three programs, each as far as the one before succeeded."""
        manifest, index = ["--manifest", work / "manifest.json"], ["--index", work / "labels.json"]
        runs = [run_script("check_dataset", "--dataset", root, "--output", work / "manifest.json")]
        if runs[-1].code == 0:
            runs.append(run_script("convert_labels", "--dataset", root, *manifest, *index, "--output", work / "labels"))
        if runs[-1].code == 0 and len(runs) == 2:
            runs.append(run_script("create_lists", *manifest, *index, "--output", work / "lists"))
        return runs
