"""Snakemake as a user starts it: the real program, in a folder of the test's own."""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional

import fork_server
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny.yaml")


class Outcome:
    """What a run of Snakemake left: exit code, messages, and Snakemake's own log."""

    def __init__(self, completed: subprocess.CompletedProcess[str], place: Path) -> None:
        self.returncode = completed.returncode
        self.text = completed.stdout + completed.stderr
        logs = sorted((place / ".snakemake" / "log").glob("*.snakemake.log"))
        self.log = logs[-1].read_text(encoding="utf-8") if logs else ""

    def jobs(self) -> Dict[str, int]:
        """Rule -> number of jobs, from the first table of a run or dry run; empty when there was nothing to do."""
        # A run tells its stages on a line, a dry run shows the table.
        text = self.log if " to run: " in self.text else self.text
        table = re.search(r"^Job stats:\njob +count\n[- ]+\n((?:\S+ +\d+\n)+)", text, re.MULTILINE)
        if table is None:
            assert "Nothing to be done" in self.text, self.text
            return {}
        counts: Dict[str, int] = collections.Counter()
        for line in table.group(1).splitlines():
            rule, count = line.split()
            # One rule for each file.
            counts["write_config" if re.fullmatch("write_[a-z]+_config", rule) else rule] += int(count)
        return {rule: count for rule, count in counts.items() if rule not in ("total", "all")}

    def problems(self) -> List[str]:
        """The lines in which the workflow itself speaks."""
        return [line for line in self.text.splitlines() if line.startswith("stdc: ")]


class Workflow:
    """A checkout and a working directory.

    Args:
        code: the checkout whose Snakefile runs.
        place: the working directory.
    """

    def __init__(self, code: Path, place: Path) -> None:
        self.code, self.place = code, place

    def command(self, *arguments: object) -> List[str]:
        python = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(REPOSITORY / ".venv" / "workflow" / "bin" / "python")
        if not Path(python).exists():
            pytest.fail(f"{python} does not exist; run `make setup`")
        return [python, "-m", "snakemake", "--snakefile", str(self.code / "Snakefile"), *map(str, arguments)]

    def environment(self) -> Dict[str, str]:
        # The programs run in the interpreter of the tests.
        return {**os.environ, "STDC_PYTHON": sys.executable}

    def __call__(self, *arguments: object, timeout_s: float = 240) -> Outcome:
        """A start of Snakemake, whatever comes of it; a process of its own, but without the second of its imports."""
        completed = fork_server.run(self.command(*arguments), self.place, self.environment(), timeout_s)
        return Outcome(completed, self.place)

    def typed(self, *arguments: object, timeout_s: float = 240) -> Outcome:
        """The same by the command line that a user types, without `fork_server`."""
        completed = subprocess.run(
            self.command(*arguments),
            cwd=self.place,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Outcome(completed, self.place)

    def run(self, *arguments: object, timeout_s: float = 240, typed: bool = False) -> Outcome:
        """Run to the end; anything but success fails the test."""
        start = self.typed if typed else self
        outcome = start("--cores", 2, *arguments, timeout_s=timeout_s)
        assert outcome.returncode == 0, outcome.text[-6000:]
        return outcome

    def plan(self, *arguments: object) -> Dict[str, int]:
        """The jobs that a run would start."""
        outcome = self("--dry-run", *arguments)
        assert outcome.returncode == 0, outcome.text[-6000:]
        return outcome.jobs()


def copy_of_the_code(target: Path) -> Path:
    """A checkout that a test may edit."""
    for name in ("stdc", "workflow", "config", "profiles"):
        shutil.copytree(REPOSITORY / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(REPOSITORY / "Snakefile", target)
    return target


def edit(file: Path, old: str, new: str, count: Optional[int] = 1) -> None:
    """Replace a text that must be there."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == count, f"{file}: {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new), encoding="utf-8")
