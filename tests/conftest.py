"""Fixtures for every test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tiny import make_tiny_dataset

REPOSITORY = Path(__file__).resolve().parents[1]


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
