"""Files and addresses of an attacker get nowhere: nothing runs, nothing fills the memory, nothing secret is kept."""

from __future__ import annotations

import http.server
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Iterator, List, Tuple

import hostile
import pytest
from programs import SCRIPTS, assert_refused, run_program

from stdc import files
from stdc.errors import InputError
from stdc.weights import array_files

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
    result = run_program("fetch_backbone", "--config", tmp_path / "model.json", "--output", output)
    assert_refused(result, "w.pdparams: refused: the file asks to run", "system")
    assert not marker.exists() and not output.exists()


class Server:
    """Serves a folder on this machine and keeps the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        asked: List[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

            def do_GET(self) -> None:
                asked.append(self.path)
                if self.path.startswith("/elsewhere"):
                    self.send_response(302)
                    self.send_header("Location", "file:///etc/passwd")
                    self.end_headers()
                elif self.path.startswith("/broken"):
                    self.wfile.write(b"no answer of HTTP\r\n\r\n")
                else:
                    super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.asked = asked
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture()
def served(tmp_path: Path) -> Iterator[Tuple[Server, Path]]:
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import state_arrays

    folder = tmp_path / "served"
    folder.mkdir()
    array_files.write_pdparams(folder / "w.pdparams", state_arrays(build_segmentor("stdc1").cp.backbone))
    server = Server(folder)
    yield server, folder / "w.pdparams"
    server.server.shutdown()
    server.server.server_close()


def fetch(source: str, digest: object, output: Path) -> List[str]:
    from stdc.weights.pretrained import fetch_backbone

    said: List[str] = []
    try:
        fetch_backbone(source, digest, "stdc1", output, said.append)  # type: ignore[arg-type]
    except InputError as error:
        said.append(f"refused: {error}")
    return said


def test_download_needs_the_right_checksum_and_leaves_nothing_without_it(
    tmp_path: Path, served: Tuple[Server, Path]
) -> None:
    server, file = served
    output = tmp_path / "out" / "w.safetensors"
    digest = files.sha256_file(file)
    source = f"http://{server.host}/w.pdparams"
    assert "model.pretrained.sha256: needed" in fetch(source, None, output)[-1] and server.asked == []
    assert f"SHA-256 is {digest}" in fetch(source, "0" * 64, output)[-1]
    for path, said in (
        ("gone.pdparams", "download failed (File not found)"),
        ("elsewhere", "download failed"),
        ("broken", "download failed"),
    ):
        assert said in fetch(f"http://{server.host}/{path}", digest, output)[-1]
    assert list(output.parent.iterdir()) == []
    fetch(source, digest, output)
    assert list(output.parent.iterdir()) == [output] and array_files.read(output)


def test_secret_in_an_address_is_refused_and_never_repeated(tmp_path: Path, served: Tuple[Server, Path]) -> None:
    server, file = served
    for source in (
        f"http://me:hunter2@{server.host}/w.pdparams",
        f"http://{server.host}/w.pdparams?token=hunter2",
        "https://me:hunter2@[broken/w.pdparams",
    ):
        said = fetch(source, files.sha256_file(file), tmp_path / "out" / "w.safetensors")
        assert said[-1].startswith("refused: ") and "hunter2" not in "".join(said), said
    assert server.asked == []


def test_scripts_read_no_yaml_but_by_the_safe_loader_and_no_pickle_at_all() -> None:
    root = SCRIPTS.parents[1]
    for path in [*root.glob("stdc/**/*.py"), *root.glob("workflow/**/*.py"), *root.glob("workflow/**/*.smk")]:
        text = path.read_text(encoding="utf-8")
        for forbidden in ("yaml.load(", "full_load(", "unsafe_load", "paddle.load(", "pickle.load", "Unpickler(pickle"):
            assert forbidden not in text, f"{path}: {forbidden}"
        for forbidden in ("shell=True", "os.system(", "eval(", "exec(", "allow_pickle=True", "extractall("):
            lines = [line for line in text.splitlines() if forbidden in line and ".eval(" not in line]
            assert not lines, f"{path}: {lines}"
