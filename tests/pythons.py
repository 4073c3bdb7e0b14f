"""Where this machine keeps interpreters."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import List


def python_folders() -> List[Path]:
    """Folders that may hold interpreters: those on PATH, then pyenv's versions, also where HOME is somewhere else."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    homes = [Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)]
    named = os.environ.get("PYENV_ROOT")
    roots = [*([Path(named)] if named else []), *(home / ".pyenv" for home in homes)]
    for root in dict.fromkeys(roots):
        folders += sorted(root.glob("versions/3.*/bin"))
    return list(dict.fromkeys(folders))
