"""Interpreters as old as that of the CoreX SDK, where this machine has any."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import List, Optional

from pythons import python_folders


def old_pythons() -> List[Path]:
    """Python 3.8 and 3.9: named by FLOOR_PYTHON, on PATH, or under pyenv."""
    named = os.environ.get("FLOOR_PYTHON")
    candidates = [place / f"python3.{minor}" for minor in (8, 9) for place in python_folders()]
    return [path for path in ([Path(named)] if named else candidates) if path.is_file()]


def find_old_python(*minors: int) -> Optional[str]:
    """The first of `old_pythons` that runs and is a Python 3 of one of these minor versions."""
    # Run, not just found: a pyenv shim is there for versions that are not.
    code = f"import ensurepip, sys; sys.exit(sys.version_info[1] not in {minors})"
    for path in old_pythons():
        if subprocess.run([str(path), "-c", code], capture_output=True, check=False).returncode == 0:
            return str(path)
    return None
