"""The RO-Crate of a results folder, by the library and judged by its validator, in an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import made_results
import pytest
from programs import REPOSITORY, TOOLS, assert_refused, run_program

from stdc.files import sha256_file, write_json
from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.results.folder import Results, read_seed

LICENSE = "https://spdx.org/licenses/CC-BY-NC-4.0.html"


@pytest.fixture(scope="module")
def python() -> str:
    path = os.environ.get("STDC_CRATE_PYTHON") or str(REPOSITORY / ".venv" / "crate" / "bin" / "python")
    if not Path(path).exists():
        pytest.skip(f"NO RO-CRATE LIBRARY: {path} does not exist; `make crate` sets it up")
    return path


def write_results(folder: Path) -> Path:
    made_results.write_seed(folder / "seed0", 0, ["frankfurt_000000_000001"], (64, 128))
    (folder / "seed0" / "model.pdparams").write_bytes(b"weights")
    (folder / "report.html").write_text("pixels")
    (folder / "vdl").mkdir()
    (folder / "vdl" / "records").write_text("pixels")
    stage = made_results.report_stage()
    evidence = Results(stage, made_results.manifest(), "", [read_seed(folder / "seed0", 0)]).evidence()
    write_json(folder / "verdict.json", judge(evidence, load_reference()))
    return folder


def run(python: str, program: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [python, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_crate_is_valid_and_names_every_file_with_its_digest(python, tmp_path):
    folder = write_results(tmp_path / "mini")
    done = run(python, TOOLS / "crate.py", folder, "--license", LICENSE)
    assert done.returncode == 0, done.stderr
    graph = {entity["@id"]: entity for entity in json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]}
    for name in ("seed0/model.pdparams", "seed0/metrics.json", "verdict.json"):
        assert graph[name]["sha256"] == sha256_file(folder / name)
    assert not {"report.html", "vdl/records"} & set(graph), "pixels of a dataset are not listed"
    assert graph["./"]["datePublished"] == "2026-11-24T08:03:20+00:00"
    judged = run(python, Path(__file__).with_name("validate.py"), folder)
    assert judged.returncode == 0 and ": valid by ro-crate-1.1" in judged.stderr, judged.stderr
    first = (folder / "ro-crate-metadata.json").read_bytes()
    run(python, TOOLS / "crate.py", folder, "--license", LICENSE)
    assert (folder / "ro-crate-metadata.json").read_bytes() == first, "equal results give equal bytes"
    (folder / "seed0" / "model.pdparams").unlink()
    judged = run(python, Path(__file__).with_name("validate.py"), folder)
    assert judged.returncode == 2 and "model.pdparams" in judged.stderr, "the validator looks"


def test_without_the_library_it_says_how_to_get_it(tmp_path):
    done = run_program("crate", write_results(tmp_path / "mini"), "--license", LICENSE)
    assert_refused(done, "rocrate is not installed", "make crate")
