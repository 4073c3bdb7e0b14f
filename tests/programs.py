"""Start a program of `workflow/scripts/` or `tools/` as a user or a rule does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = REPOSITORY / "workflow" / "scripts"
TOOLS = REPOSITORY / "tools"


def run_program(name: str, *arguments: object, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    """Run `<name>.py` with the interpreter of the tests; returns exit code, stdout and stderr."""
    path = next(folder / f"{name}.py" for folder in (SCRIPTS, TOOLS) if (folder / f"{name}.py").is_file())
    command = [sys.executable, str(path), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)


def assert_refused(result: subprocess.CompletedProcess[str], *fragments: str) -> None:
    """The user's mistake was told in words: exit code 2, no traceback, every fragment on stderr."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for fragment in fragments:
        assert fragment in result.stderr
