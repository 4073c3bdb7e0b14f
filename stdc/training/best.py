"""The best weights so far of a run, kept beside its checkpoints for as long as one of them refers to them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any, Dict, Mapping

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.training.checkpoints import DamagedError, opened
from stdc.weights import array_files

#: What a checkpoint remembers: {"iteration", "miou", "sha256"}.
Record = Dict[str, Any]


class BestWeights:
    """Files `<iteration>.safetensors` of one folder.

    Args:
        folder: of these files, see `RunFolder.best`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, iteration: int) -> Path:
        """Where the weights of an iteration are kept."""
        return self.folder / f"{iteration:08d}.safetensors"

    def keep(self, arrays: Arrays, iteration: int, miou: float) -> Record:
        """Write the weights of an iteration; what to remember of them."""
        array_files.write_safetensors(self.path(iteration), arrays)
        return {"iteration": iteration, "miou": miou, "sha256": files.sha256_file(self.path(iteration))}

    def read(self, record: Mapping[str, Any]) -> Arrays:
        """The weights of a record.

        Raises:
            DamagedError: the file is gone or damaged: the run could not end as it would have.
            InputError: something else stands in its place.
            OSError: it cannot be read now.
        """
        path = self.path(record["iteration"])
        with opened(path) as handle:
            size = os.fstat(handle.fileno()).st_size
            if size > array_files.MAX_BYTES:
                raise DamagedError(
                    f"{path}: {size} bytes; the best weights so far have at most {array_files.MAX_BYTES}"
                )
            data = handle.read()
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise DamagedError(f"{path}: the SHA-256 of the best weights so far differs")
        return array_files.parse_safetensors(data, str(path))

    def prune(self, checkpoints: Path) -> None:
        """Delete what no checkpoint below a folder refers to."""
        used = set()
        for manifest in checkpoints.glob("*/manifest.json"):
            # A damaged checkpoint that has not been pruned yet refers to nothing.
            with contextlib.suppress(InputError, KeyError, TypeError):
                used.add(self.path(files.read_json(manifest)["state"]["best"]["iteration"]))
        for path in self.folder.glob("*.safetensors"):
            if path not in used:
                path.unlink()
