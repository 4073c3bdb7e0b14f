"""Files and addresses of an attacker get nowhere: nothing runs, nothing fills the memory, nothing secret is kept."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import hostile
from programs import SCRIPTS, assert_refused, run_program

from stdc import files

HERE = Path(__file__).resolve().parent


def test_every_hostile_weights_file_is_refused_in_time_and_runs_nothing() -> None:
    # Each in a process of its own that ends at 500 MB and 20 s of processor time.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, HERE / "hostile.py", "--limit-s", "20", "--limit-mb", "500"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    count = int(result.stdout.rpartition(" hostile weights files")[0].split()[-1])
    assert count > 500 and f"{count} refused, 0 not" in result.stdout


def test_the_hostile_files_do_run_in_a_reader_that_is_not_careful(tmp_path: Path) -> None:
    ran = 0
    for name, data in hostile.running(str(tmp_path / "marker")):
        if not name.startswith(("os.system", "eval", "raw GLOBAL", "numpy.memmap")):
            continue
        (tmp_path / "data").write_bytes(data)
        code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        if ", as value" in name and "protocol 2" in name:
            subprocess.run([sys.executable, "-c", code, tmp_path / "data"], check=False, timeout=60)
            ran += (tmp_path / "marker").exists()
            (tmp_path / "marker").unlink()
    assert ran == 3


def test_program_refuses_a_hostile_download_in_one_line(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    source = tmp_path / "w.pdparams"
    source.write_bytes(pickle.dumps({"w": hostile.Call(os.system, f"touch {marker}")}, 4))
    files.write_json(
        tmp_path / "model.json",
        {"model": {"backbone": "stdc1", "pretrained": {"source": str(source), "sha256": None}}},
    )
    output = tmp_path / "out" / "w.safetensors"
    result = run_program("fetch_weights", "--config", tmp_path / "model.json", "--output", output)
    assert_refused(result, "w.pdparams: refused: the file asks to run", "system")
    assert not marker.exists() and not output.exists()


def test_scripts_read_no_yaml_but_by_the_safe_loader_and_no_pickle_at_all() -> None:
    root = SCRIPTS.parents[1]
    for path in [*root.glob("stdc/**/*.py"), *root.glob("workflow/**/*.py"), *root.glob("workflow/**/*.smk")]:
        text = path.read_text(encoding="utf-8")
        for forbidden in ("yaml.load(", "full_load(", "unsafe_load", "paddle.load(", "pickle.load", "Unpickler(pickle"):
            assert forbidden not in text, f"{path}: {forbidden}"
        for forbidden in ("shell=True", "os.system(", "eval(", "exec(", "allow_pickle=True", "extractall("):
            lines = [line for line in text.splitlines() if forbidden in line and ".eval(" not in line]
            assert not lines, f"{path}: {lines}"
