"""The outputs of a finished training, kept a second time beside themselves.

Snakemake deletes the outputs of a training before it starts the job again, which it does when the times of the
dataset's files change although their content does not. As long as the run folder is there, the outputs are written from
it anew; where it was removed to save disk, weeks of work would be gone. So the outputs have second names in a folder
that no rule declares. They are hard links, which take no disk while the outputs are there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Dict, Sequence

from stdc import files
from stdc.errors import InputError

FOLDER = ".finished"
_INDEX = "finished.json"


def keep(outputs: Sequence[Path], run_hash: str) -> None:
    """Give the outputs of a run second names, instead of those of an earlier run.

    Does nothing where hard links cannot be made, and for outputs in several folders, which the workflow does not make.

    Args:
        outputs: files and folders; the first one is the weights.
        run_hash: of the run that they belong to.
    """
    home = outputs[0].parent
    if any(home not in path.parents for path in outputs):
        return
    kept, made = home / FOLDER, home / f".tmp-{os.getpid()}-{FOLDER}"
    digests: Dict[str, str] = {}
    shutil.rmtree(made, ignore_errors=True)
    try:
        for file in _files_of(outputs):
            name = str(file.relative_to(home))
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(file, made / name)
            digests[name] = files.sha256_file(file)
        files.write_json(made / _INDEX, {"run_hash": run_hash, "files": digests})
        shutil.rmtree(kept, ignore_errors=True)
        made.rename(kept)
    except OSError:
        # A file system without hard links, or a full one, keeps no copy; the outputs themselves are complete.
        shutil.rmtree(made, ignore_errors=True)


def restore(outputs: Sequence[Path], run_hash: str) -> bool:
    """Put the outputs of this very run back where they were; False where that is not possible, and nothing is done.

    Args:
        outputs: as for `keep`; each must have been kept, and hold what it held.
    """
    home = outputs[0].parent
    kept = home / FOLDER
    try:
        index = files.read_json(kept / _INDEX)
        digests = dict(index["files"])
        if index["run_hash"] != run_hash or not digests:
            return False
        wanted = {str(path.relative_to(home)) for path in outputs}
        there = {
            name for name in wanted if name in digests or any(kept_name.startswith(f"{name}/") for kept_name in digests)
        }
        if there != wanted or any(files.sha256_file(kept / name) != digest for name, digest in digests.items()):
            return False
    except (InputError, OSError, KeyError, TypeError, ValueError):
        return False
    for name in sorted(digests, key=lambda name: (name == outputs[0].name, name)):
        target = home / name
        if Path(name).parts[0] in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                target.unlink()
            os.link(kept / name, target)
            # The output gets a time newer than its inputs', because Snakemake would make it again otherwise.
            os.utime(target)
    return True


def _files_of(outputs: Sequence[Path]) -> Sequence[Path]:
    found = []
    for path in outputs:
        found += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return found
