"""Checkpoints that are either whole or not there.

A checkpoint is a folder ``<iteration>/`` with safetensors and, written last, a ``manifest.json`` that holds the SHA-256
of each file. It is made under a temporary name, fsynced and renamed. A reader takes the newest one that verifies.

Wrong and damaged are different: a checkpoint whose content does not verify is damaged and skipped; one that cannot be
read now (an I/O error, a missing permission) is an error, and nothing is thrown away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Mapping, Optional

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.progress import Log
from stdc.weights import array_files

_FORMAT = 2
_MANIFEST = "manifest.json"
_MODEL = "model.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_AVERAGE = "average.safetensors"
_HISTORY = "history.jsonl"
#: A manifest has a thousand bytes, and what the loop remembers.
_MOST_MANIFEST_BYTES = 1 << 24
_CONTENTS = (_MODEL, _OPTIMIZER, _AVERAGE, _HISTORY)


class DamagedError(Exception):
    """The content of a checkpoint is not what was written; names the file."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One saved state.

    Attributes:
        iteration: optimizer steps done.
        model: parameters and running statistics by structured name.
        optimizer: accumulators by ``<parameter name>.<accumulator>``.
        state: what else the loop needs, as JSON values.
        history: the run's history up to here. The live file may lack lines after a power loss.
        average: moving average of the parameters by name; empty where the recipe has none.
    """

    iteration: int
    model: Arrays
    optimizer: Arrays
    state: Dict[str, Any]
    history: str = ""
    average: Arrays = dataclasses.field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint, run_hash: str, keep: int) -> Path:
    """Write one checkpoint below `folder` and delete all but the newest `keep` up to it.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints are intact and nothing half-written is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _name(checkpoint.iteration)
    temporary = files.temporary_path(target)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        array_files.write_safetensors(temporary / _MODEL, checkpoint.model)
        array_files.write_safetensors(temporary / _OPTIMIZER, checkpoint.optimizer)
        array_files.write_safetensors(temporary / _AVERAGE, checkpoint.average)
        files.write_text(temporary / _HISTORY, checkpoint.history)
        written = {
            name: {"sha256": files.sha256_file(temporary / name), "bytes": (temporary / name).stat().st_size}
            for name in _CONTENTS
        }
        state = checkpoint.state
        files.write_json(
            temporary / _MANIFEST,
            {
                "format": _FORMAT,
                "run_hash": run_hash,
                "iteration": checkpoint.iteration,
                "files": written,
                "state": state,
                "state_sha256": files.sha256_text(files.canonical_json(state)),
            },
        )
        if target.exists():
            # If this folder exists it is damaged; had it been valid, training would have resumed from it.
            shutil.rmtree(target)
        temporary.rename(target)
        files.fsync_folder(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, _no_space(folder, checkpoint, error.errno), str(target)) from None
        raise
    _prune(folder, checkpoint.iteration, keep)
    return target


def load_newest(
    folder: Path,
    run_hash: str,
    log: Log,
    *,
    check: Callable[[Checkpoint], None] = lambda _: None,
    newest: Optional[int] = None,
) -> Optional[Checkpoint]:
    """The newest checkpoint that verifies; damaged ones are told and skipped, never loaded.

    Args:
        check: raises DamagedError where something outside the checkpoint, which it needs, is damaged.
        newest: iteration of the newest one to consider; None for any.
    Returns:
        None where there is none.
    Raises:
        OSError: a checkpoint cannot be read now. Treating that as damage would restart the run from an older one.
    """
    if not folder.is_dir():
        return None
    for iteration in _iterations(folder):
        if newest is not None and iteration > newest:
            continue
        try:
            found = _load(folder / _name(iteration), run_hash)
            check(found)
            return found
        except DamagedError as damage:
            log(f"skipping a damaged checkpoint: {damage}")
    return None


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
    manifest = _read_manifest(path / _MANIFEST)
    try:
        if manifest["format"] != _FORMAT:
            raise DamagedError(f"{path}: format {manifest['format']}, expected {_FORMAT}")
        if manifest["run_hash"] != run_hash:
            raise DamagedError(f"{path}: belongs to run {manifest['run_hash'][:12]}, this is {run_hash[:12]}")
        if files.sha256_text(files.canonical_json(manifest["state"])) != manifest["state_sha256"]:
            raise DamagedError(f"{path / _MANIFEST}: SHA-256 of the state differs")
        if manifest["iteration"] != int(path.name):
            raise DamagedError(f"{path / _MANIFEST}: is of iteration {manifest['iteration']}")
        written = {
            name: (int(manifest["files"][name]["bytes"]), manifest["files"][name]["sha256"]) for name in _CONTENTS
        }
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{path / _MANIFEST}: not a checkpoint's manifest ({error!r})") from None
    contents = {name: _read_verified(path / name, *written[name]) for name in _CONTENTS}
    try:
        return Checkpoint(
            int(manifest["iteration"]),
            array_files.parse_safetensors(contents[_MODEL], str(path / _MODEL)),
            array_files.parse_safetensors(contents[_OPTIMIZER], str(path / _OPTIMIZER)),
            manifest["state"],
            contents[_HISTORY].decode("utf-8"),
            array_files.parse_safetensors(contents[_AVERAGE], str(path / _AVERAGE)),
        )
    except ValueError as error:
        raise DamagedError(f"{path}: not a checkpoint ({error!r})") from None
    except InputError as error:
        raise DamagedError(str(error)) from None


def _read_manifest(path: Path) -> Mapping[str, Any]:
    with opened(path) as handle:
        data = handle.read(_MOST_MANIFEST_BYTES)
    try:
        manifest = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(manifest, dict):
        raise DamagedError(f"{path}: not a checkpoint's manifest")
    return manifest


def _read_verified(path: Path, size: int, sha256: str) -> bytes:
    with opened(path) as handle:
        found = os.fstat(handle.fileno()).st_size
        if found != size:
            raise DamagedError(f"{path}: {found} bytes, {_MANIFEST} says {size}")
        data = handle.read()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedError(f"{path}: SHA-256 differs from the one in {_MANIFEST}")
    return data


def opened(path: Path) -> BinaryIO:
    """Open a file of a checkpoint, or one that it refers to.

    Raises:
        DamagedError: it is gone.
        InputError: something else stands in its place, which somebody must have put there: nothing is given up for it.
        OSError: it cannot be read now.
    """
    try:
        return files.open_file(path)
    except files.MissingFileError as error:
        raise DamagedError(str(error)) from None
    except InputError as error:
        raise InputError(
            f"{error}; put the file back, or remove what stands there to go on from an earlier checkpoint"
        ) from None


def _no_space(folder: Path, checkpoint: Checkpoint, number: int) -> str:
    needed = sum(array.nbytes for arrays in (checkpoint.model, checkpoint.optimizer) for array in arrays.values())
    free = "an unknown amount is free"
    if number == errno.EDQUOT:
        # The disk has room, but this user's quota is used up; how large it is only the file server knows.
        free = "the quota of this user is used up"
    else:
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are free"
    return (
        f"no space left for the checkpoint of iteration {checkpoint.iteration}: {needed / 1e6:.0f} MB are needed, "
        f"{free}; earlier checkpoints are intact, free some space and start again"
    )
