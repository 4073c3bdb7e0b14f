"""Folders that a run writes to, looked at before Snakemake writes to them and would end in a traceback.

Called by profiles/default, which Snakemake reads first.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Optional, Sequence

#: Bytes of the trial file: a full disk or quota refuses a whole block.
_TRIAL_BYTES = 4096


def find_places() -> None:
    """Let home and caches be a folder beside the temporary files where the user's own cannot be written, and say so.

    Snakemake makes a folder in the cache before it reads the Snakefile; Paddle and VisualDL make theirs in the home
    folder when they are imported.
    """
    # Not Path.home(), which raises where the user is not known, as in a container.
    home, cache = Path(os.path.expanduser("~")), os.environ.get("XDG_CACHE_HOME")  # noqa: PTH111
    places = {"HOME": (home, write_problem(home) if home.is_dir() else "no such folder")}
    if cache or places["HOME"][1] is None:
        usual = Path(cache) if cache else home / ".cache"
        places["XDG_CACHE_HOME"] = (usual, write_problem(usual / "snakemake"))
    for variable, (folder, problem) in places.items():
        if problem is not None:
            place = _own_folder(Path(tempfile.gettempdir()))
            os.environ[variable] = str(place)
            message = f"stdc: {folder}: {problem}; {place} takes its place in this run ({variable} names another)"
            print(message, file=sys.stderr, flush=True)


def refuse_unwritable(argv: Sequence[str]) -> None:
    """End Snakemake, in a line, where its working directory cannot be written or holds another user's run.

    Args:
        argv: the arguments of Snakemake, without the program's name.
    """
    place = Path.cwd()
    for word, after in zip(argv, [*argv[1:], ""]):
        if word in ("--directory", "-d"):
            place = Path(after)
        elif word.startswith("--directory="):
            place = Path(word.partition("=")[2])
    problem = write_problem(place)
    if problem is None:
        owner = _owner(place / ".snakemake")
        if owner is None or owner == os.geteuid() or os.geteuid() == 0:
            return
        # Snakemake keeps notes there that only their owner may read.
        problem = f"user {owner} has a run here, and this is user {os.geteuid()}"
    print(
        f"stdc: {place}: {problem}; work in a folder of your own, which --directory names", file=sys.stderr, flush=True
    )
    raise SystemExit(1)


def _owner(path: Path) -> Optional[int]:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def write_problem(folder: Path) -> Optional[str]:
    """Why nothing can be written to a folder that is made for it; None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return room_problem(folder, _TRIAL_BYTES)


def room_problem(folder: Path, size: int) -> Optional[str]:
    """Why so many bytes cannot be written to a folder; None where they can."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as handle:
            handle.write(bytes(size))
            handle.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _own_folder(temporary: Path) -> Path:
    """The same folder in every run; a new one where somebody else has made that."""
    folder = temporary / f"stdc-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.lstat().st_uid != os.getuid() or write_problem(folder) is not None:
            return Path(tempfile.mkdtemp(prefix="stdc-home-"))
    except OSError:
        return temporary
    return folder
