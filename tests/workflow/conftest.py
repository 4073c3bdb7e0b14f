"""Fixtures for tests that start Snakemake."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake_runs import REPOSITORY, Workflow


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    """This checkout, an empty working directory."""
    place = tmp_path / "place"
    place.mkdir()
    return Workflow(REPOSITORY, place)
