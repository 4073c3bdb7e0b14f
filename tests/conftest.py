"""Fixtures for every test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List

import pytest
from tiny import make_tiny_dataset

REPOSITORY = Path(__file__).resolve().parents[1]

#: Files of a minute and more, the longest first. Where several files run at a time, one of these that began last would
#: leave the other processors idle. (For xdist, which by itself begins with the files of most tests: these have few.)
LONG_FILES = (
    "workflow/test_dag.py",
    "slurm/test_slurm.py",
    "reliability/test_ranks_and_limits.py",
    "workflow/test_whole_run.py",
    "reliability/test_exact_resume.py",
    "devices/test_plugin.py",
    "reliability/test_two_nodes.py",
    "devices/test_paddle24.py",
    "workflow/test_configuration.py",
    "reliability/test_torture.py",
    "reliability/test_chaos.py",
    "reliability/test_data_workers.py",
    "workflow/test_sweep.py",
    "unit/test_evaluate.py",
    "workflow/test_joined_nodes.py",
    "reliability/test_divergence.py",
    "workflow/test_forecast_told.py",
    "browser/test_browser.py",
    "unit/test_doctor.py",
    "unit/test_export.py",
)


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    place = {REPOSITORY / "tests" / name: position for position, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def _tiny_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_dataset(tmp_path_factory.mktemp("tiny") / "cityscapes")


@pytest.fixture
def tiny_dataset(_tiny_template: Path, tmp_path: Path) -> Path:
    """A dataset for one test to break: 2 cities per split, 2 frames per city, 32x64, four files per frame."""
    return Path(shutil.copytree(_tiny_template, tmp_path / "cityscapes"))


@pytest.fixture(scope="session")
def real_dataset() -> Path:
    """Real driving footage in the layout of Cityscapes (polygons only). Read it, never write to it."""
    named = os.environ.get("STDC_REAL_DATA")
    path = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "camvid_cityscapes"
    if not (path / "leftImg8bit").is_dir():
        message = f"NO REAL FOOTAGE: {path} does not exist; set STDC_REAL_DATA to a Cityscapes-format folder"
        if named:
            pytest.fail(message)
        pytest.skip(message)
    return path
