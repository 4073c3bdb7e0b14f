"""Where a result comes from: code, packages, machine, command."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from stdc.errors import InputError
from stdc.files import read_text

_ROOT = Path(__file__).resolve().parents[1]

#: Packages whose version can change a result.
PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "opencv-python-headless", "pillow", "cityscapesscripts",
            "safetensors", "visualdl", "scipy")  # fmt: skip


def commit() -> Dict[str, Any]:
    """Commit, and whether the working tree differs from it (null: not known).

    The Snakefile and the images' build arguments tell both by STDC_COMMIT and STDC_COMMIT_DIRTY; without them the
    commit
    is read from the checkout's own files.
    """
    told = os.environ.get("STDC_COMMIT")
    if told:
        return {"commit": told, "dirty": {"0": False, "1": True}.get(os.environ.get("STDC_COMMIT_DIRTY", ""))}
    return {"commit": _checked_out(_ROOT / ".git"), "dirty": None}


def versions() -> Dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> Dict[str, Any]:
    """Kernel, architecture, cores; no host name, since results are shared."""
    return {"system": platform.system(), "release": platform.release(), "machine": platform.machine(),
            "cores": os.cpu_count()}  # fmt: skip


def command() -> List[str]:
    """The command line of this process."""
    return [Path(sys.executable).name, *sys.argv]


def _checked_out(git: Path) -> Optional[str]:
    try:
        head = read_text(git / "HEAD").strip()
        if not head.startswith("ref: "):
            return head
        reference = head[len("ref: ") :]
        loose = git / reference
        if loose.exists():
            return read_text(loose).strip()
        for line in read_text(git / "packed-refs").splitlines():
            if line.endswith(" " + reference):
                return line.split(" ", 1)[0]
    except (OSError, InputError):
        pass
    return None
