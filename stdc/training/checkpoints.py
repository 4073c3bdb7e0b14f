"""Checkpoints that are either whole or not there, and the folder of a run.

A checkpoint is a folder ``<iteration>/`` with safetensors and, written last, a ``manifest.json`` that holds the SHA-256
of each file. It is made under a temporary name, fsynced and renamed. A reader takes the newest one that verifies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import numpy as np

from stdc import files
from stdc.errors import InputError
from stdc.weights import array_files

Arrays = Dict[str, np.ndarray]
Report = Callable[[str], None]

_FORMAT = 1
_MANIFEST = "manifest.json"
_HISTORY = "history.jsonl"
_TEMPORARY = ".tmp-"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One saved state.

    Attributes:
        iteration: optimizer steps done.
        model: parameters and running statistics by structured name.
        optimizer: accumulators by ``<parameter name>.<accumulator>``.
        state: what else the loop needs, as JSON values.
        history: the run's history up to here. The live file may lack lines after a power loss.
    """

    iteration: int
    model: Arrays
    optimizer: Arrays
    state: Dict[str, Any]
    history: str = ""


def save(folder: Path, checkpoint: Checkpoint, run_hash: str, keep: int) -> Path:
    """Write one checkpoint below `folder` and delete all but the newest `keep` up to it.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints are intact and nothing half-written is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _name(checkpoint.iteration)
    temporary = folder / f"{_TEMPORARY}{os.getpid()}-{_name(checkpoint.iteration)}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        contents = {"model.safetensors": checkpoint.model, "optimizer.safetensors": checkpoint.optimizer}
        digests = {}
        for name, arrays in contents.items():
            array_files.write_safetensors(temporary / name, arrays)
        files.write_text(temporary / _HISTORY, checkpoint.history)
        for name in (*contents, _HISTORY):
            digests[name] = {
                "sha256": files.sha256_file(temporary / name),
                "bytes": (temporary / name).stat().st_size,
            }
        state = checkpoint.state
        files.write_json(
            temporary / _MANIFEST,
            {
                "format": _FORMAT,
                "run_hash": run_hash,
                "iteration": checkpoint.iteration,
                "files": digests,
                "state": state,
                "state_sha256": files.sha256_text(files.canonical_json(state)),
            },
        )
        if target.exists():
            # Only a damaged one can stand here: a whole one would have been resumed past.
            shutil.rmtree(target)
        temporary.rename(target)
        files.fsync_folder(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, _no_space(folder, checkpoint), str(target)) from None
        raise
    _prune(folder, checkpoint.iteration, keep)
    return target


def load_newest(
    folder: Path, run_hash: str, report: Report, check: Callable[[Checkpoint], None] = lambda _: None
) -> Optional[Checkpoint]:
    """The newest checkpoint that verifies; damaged ones are reported and skipped, never loaded.

    Args:
        check: raises InputError where something outside the checkpoint, which it needs, is damaged.
    Returns:
        None where there is none.
    """
    if not folder.is_dir():
        return None
    for iteration in _iterations(folder):
        path = folder / _name(iteration)
        try:
            found = _load(path, run_hash)
            check(found)
            return found
        except InputError as error:
            report(f"skipping a damaged checkpoint: {error}")
    return None


def remove_temporary(folder: Path) -> None:
    """Delete what a killed writer left. Call only while holding the run folder's lock."""
    for path in folder.glob(f"{_TEMPORARY}*") if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


@contextlib.contextmanager
def locked(folder: Path, report: Report, poll_s: float = 1.0, limit_s: float = 24 * 3600.0) -> Iterator[None]:
    """Hold the run folder for this process alone; wait while another one trains in it.

    A kernel lock: it ends with the process, also at ``kill -9``. The descriptor is not inherited by children.

    Raises:
        TimeoutError: still held after `limit_s` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with path.open("a+") as handle:
        deadline = time.monotonic() + limit_s
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if not told:
                handle.seek(0)
                report(f"waiting: {folder} is in use by {handle.read().strip() or 'another process'}")
                told = True
            if time.monotonic() > deadline:
                raise TimeoutError(f"{folder} was in use for {limit_s:.0f} s")
            time.sleep(poll_s)
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        handle.flush()
        yield


def checkpoint_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes on disk of one set of arrays."""
    return sum(array.nbytes for array in arrays.values())


def _prune(folder: Path, newest: int, keep: int) -> None:
    """Keep `keep` checkpoints up to `newest`; one beyond it can only be damaged, or it would have been resumed."""
    iterations = _iterations(folder)
    kept = [iteration for iteration in iterations if iteration <= newest][: max(keep, 1)]
    for iteration in set(iterations) - set(kept):
        shutil.rmtree(folder / _name(iteration), ignore_errors=True)


def _iterations(folder: Path) -> List[int]:
    """Newest first."""
    names = (path.name for path in folder.iterdir() if path.is_dir() and path.name.isascii() and path.name.isdigit())
    return sorted((int(name) for name in names if name == _name(int(name))), reverse=True)


def _name(iteration: int) -> str:
    return f"{iteration:08d}"


def _load(path: Path, run_hash: str) -> Checkpoint:
    with contextlib.suppress(FileNotFoundError):
        # A folder that cannot be read now is not a damaged one: skipping it would throw the run away.
        (path / _MANIFEST).open("rb").close()
    manifest = files.read_json(path / _MANIFEST)
    try:
        if manifest["format"] != _FORMAT:
            raise InputError(f"{path}: format {manifest['format']}, expected {_FORMAT}")
        if manifest["run_hash"] != run_hash:
            raise InputError(f"{path}: belongs to run {manifest['run_hash'][:12]}, this is {run_hash[:12]}")
        if files.sha256_text(files.canonical_json(manifest["state"])) != manifest["state_sha256"]:
            raise InputError(f"{path / _MANIFEST}: SHA-256 of the state differs")
        if manifest["iteration"] != int(path.name):
            raise InputError(f"{path / _MANIFEST}: is of iteration {manifest['iteration']}")
        for name, expected in manifest["files"].items():
            file = path / name
            if not file.is_file():
                raise InputError(f"{file}: no such file")
            if files.sha256_file(file) != expected["sha256"]:
                raise InputError(f"{file}: SHA-256 differs from the one in {_MANIFEST}")
        verified = {name: path / name for name in manifest["files"]}
        return Checkpoint(
            int(manifest["iteration"]),
            array_files.read_safetensors(verified["model.safetensors"]),
            array_files.read_safetensors(verified["optimizer.safetensors"]),
            manifest["state"],
            verified[_HISTORY].read_text(encoding="utf-8"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path / _MANIFEST}: not a checkpoint's manifest ({error!r})") from None


def _no_space(folder: Path, checkpoint: Checkpoint) -> str:
    needed = checkpoint_bytes(checkpoint.model) + checkpoint_bytes(checkpoint.optimizer)
    free = shutil.disk_usage(folder).free
    return (
        f"no space left for the checkpoint of iteration {checkpoint.iteration}: {needed / 1e6:.0f} MB are needed, "
        f"{free / 1e6:.0f} MB are free; earlier checkpoints are intact, free some space and start again"
    )
