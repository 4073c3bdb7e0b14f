"""A program's exit code and last words reach the user, whatever Snakemake was told to keep quiet."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from snakemake_runs import REPOSITORY, TINY, Workflow

pytestmark = pytest.mark.workflow


def assert_told(workflow: Workflow, dataset: Path, *words: str) -> None:
    missing = next(iter(sorted(dataset.glob("gtFine/train/*/*_labelIds.png"))))
    missing.unlink(missing_ok=True)
    outcome = workflow(
        "--cores", 1, *words, "--configfile", TINY, "--config", f"dataset={dataset}", "--until", "check_dataset"
    )
    assert outcome.returncode == 2, outcome.text
    told = [line for line in outcome.problems() if line.startswith("stdc: check_dataset failed: ")]
    assert len(told) == 1 and "Traceback" not in outcome.text, outcome.text
    assert missing.name.split("_gtFine")[0] in outcome.text


@pytest.mark.parametrize("words", [("-q",), ("--quiet", "all"), ("-q", "rules", "progress", "host", "reason")])
def test_wrong_input_ends_with_2_and_its_words_however_quiet(
    workflow: Workflow, tiny_dataset: Path, words: tuple
) -> None:
    assert_told(workflow, tiny_dataset, *words)


def test_the_oldest_snakemake_that_is_allowed_says_the_same(
    workflow: Workflow, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = os.environ.get("STDC_OLDEST_SNAKEMAKE_PYTHON")
    if not python:
        pytest.skip("NO SNAKEMAKE 9.0: name a Python that has it by STDC_OLDEST_SNAKEMAKE_PYTHON")
    stated = re.search(r'^min_version\("([0-9.]+)"\)', (REPOSITORY / "Snakefile").read_text(encoding="utf-8"), re.M)
    assert stated is not None
    code = "import snakemake; print(snakemake.__version__)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert found.startswith(stated.group(1))
    monkeypatch.setenv("STDC_SNAKEMAKE_PYTHON", python)
    assert_told(workflow, tiny_dataset, "-q")
