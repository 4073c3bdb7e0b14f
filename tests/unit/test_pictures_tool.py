"""make pictures: refuses what may not be shown, says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import made_results
from programs import TOOLS, assert_refused


def run(results, path):
    command = [sys.executable, str(TOOLS / "pictures.py"), "--results", str(results), "--output", str(results / "out")]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def write(tmp_path, kind):
    (tmp_path / "config").mkdir()
    config = made_results.report_config(dataset_kind=kind)
    (tmp_path / "config" / "report.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def test_pictures_of_a_users_dataset_are_refused(tmp_path):
    done = run(write(tmp_path, "folder"), os.environ["PATH"])
    assert_refused(done, "not of the generated dataset")
    assert not (tmp_path / "out").exists()


def test_a_missing_program_is_named_with_its_package(tmp_path):
    assert_refused(run(write(tmp_path, "synthetic"), str(tmp_path)), "chromium: not found", "apt install chromium")
