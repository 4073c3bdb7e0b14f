"""Given weights: by path, address or name, with the checksum that was asked for, and words for every other end.

The servers are real ones on this machine's loopback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import pytest

pytest.importorskip("paddle")

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import state_arrays, with_unused_heads
from stdc.weights import array_files, fetch, sources
from stdc.weights.downloads import Limits, download
from stdc.weights.fetch import Wanted


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a backbone's weights."""
    path = tmp_path_factory.mktemp("weights") / "stdc1.pdparams"
    array_files.write_pdparams(path, state_arrays(build_segmentor("stdc1").cp.backbone))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as PaddleSeg writes a trained network, of eleven classes."""
    arrays = with_unused_heads(state_arrays(build_segmentor("stdc1", num_classes=11)))
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    array_files.write_pdparams(path, arrays)
    return path


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def wanted(source: object, sha256: Optional[str] = None, whole: bool = False, backbone: str = "stdc1") -> Wanted:
    key = "model.init_from" if whole else "model.pretrained"
    return Wanted(key=key, source=str(source), sha256=sha256, backbone=backbone, whole=whole)


def get(one: Wanted, output: Path) -> List[str]:
    """What is said while these weights are fetched; a refusal is the last line."""
    said: List[str] = []
    try:
        fetch.fetch(one, output, said.append, Limits(connect_s=2, idle_s=2, whole_s=4))
    except InputError as error:
        said.append(f"refused: {error}")
    assert "\n" not in "".join(said)
    return said


def served(answer: Callable[[http.server.BaseHTTPRequestHandler], None], tls: Optional[ssl.SSLContext] = None) -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A client that gives up is what some of these tests are about.
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    @contextlib.contextmanager
    def running() -> Iterator[str]:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"{'https' if tls else 'http'}://localhost:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()

    return running()


def sending(data: bytes, claimed: Optional[int] = None) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if claimed is None else claimed))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def dripping(start: bytes, forever: bytes) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """Sends `start`, and then one byte after the other."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        for _ in range(200):
            for byte in forever:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.05)

    return answer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", f"{path}.key", "-out", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"NO CERTIFICATE FOR THE TLS TESTS: openssl cannot make one ({error})")
    return path


# ---- files


def test_a_backbone_and_a_whole_network_are_kept_under_our_names(tmp_path: Path, backbone: Path, network: Path) -> None:
    said = get(wanted(backbone, files.sha256_file(backbone)), tmp_path / "b.safetensors")
    assert said == [f"{backbone}: SHA-256 {files.sha256_file(backbone)}"]
    arrays = array_files.read_safetensors(tmp_path / "b.safetensors")
    expected = array_files.read_pdparams(backbone)
    assert set(arrays) == set(expected) and all(np.array_equal(arrays[name], expected[name]) for name in arrays)
    said = get(wanted(network, whole=True), tmp_path / "n.safetensors")
    assert "other classes than ours" in said[-1] and "conv_out16.conv_out.bias" in said[-1]
    fetched = fetch.fetch(wanted(network, whole=True), tmp_path / "n.safetensors", lambda _: None)
    assert fetched == fetch.Fetched("model.init_from", str(network), files.sha256_file(network), "none")
    whole = array_files.read_safetensors(tmp_path / "n.safetensors")
    assert "conv_out.conv_out.weight" not in whole and "ffm.conv1.weight" in whole
    assert not any(name.startswith("conv_out_sp2") for name in whole)


def test_what_does_not_fit_is_refused_by_what_it_is(tmp_path: Path, backbone: Path, network: Path) -> None:
    output = tmp_path / "out" / "w.safetensors"
    for one, said in (
        (wanted(network), "a whole segmentation network .*model.init_from"),
        (wanted(backbone, whole=True), "a backbone alone .*model.pretrained"),
        (wanted(backbone, "0" * 64), "SHA-256 is [0-9a-f]{64}, model.pretrained.sha256 says 0000"),
        (wanted(backbone, backbone="stdc2"), "does not fit this network"),
        (wanted(tmp_path / "gone.pdparams"), r"gone\.pdparams: no such file"),
        (wanted("paddleseg-stdc3"), "no such file, and no published weights of that name; there are paddleseg-stdc1,"),
        (wanted("ftp://example.invalid/w"), "ftp: is not supported"),
        (wanted("https://example.invalid/w"), "model.pretrained.sha256: needed for a download"),
        (wanted("http://example.invalid/w", "first-seen"), "first-seen needs https"),
        (wanted("paddleseg-stdc1"), "no checksum of paddleseg-stdc1 is public .*first-seen to believe"),
        (wanted("paddleseg-stdc1", "first-seen", backbone="stdc2"), "are weights of stdc1; model.backbone is stdc2"),
        (wanted("paddleseg-stdc1-cityscapes", "first-seen"), "is a whole trained network; model.init_from"),
        (wanted("pp-stdc1", "1" * 64), "pp-stdc1 has 245fe3c2"),
        (
            wanted("authors-stdc1", "first-seen"),
            "cannot be downloaded .*place the file as .*downloads/STDCNet813M_73.91.tar; or start",
        ),
    ):
        (line,) = get(one, output)[-1:]
        assert line.startswith("refused: "), (one, line)
        assert re.search(said, line), (said, line)
        assert not output.exists()


def test_a_tilde_is_the_home_folder(tmp_path: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pdparams").write_bytes(backbone.read_bytes())
    assert "SHA-256" in get(wanted("~/w.pdparams"), tmp_path / "o.safetensors")[-1]


# ---- the registry


def test_every_published_entry_is_complete_and_named_once() -> None:
    entries = sources.registry()
    assert len({entry.file for entry in entries.values()}) == len(entries) >= 10
    for entry in entries.values():
        assert entry.network in ("stdc1", "stdc2") and entry.license and entry.about and entry.why
        assert entry.address is None or entry.address.startswith("https://")
        assert entry.sha256 is None or (len(entry.sha256) == 64 and int(entry.sha256, 16))
        assert not sources.has_secret(entry.name) and "/" not in entry.name + entry.file
    trained = {entry.address for entry in entries.values() if entry.whole}
    root = "https://bj.bcebos.com/paddleseg/dygraph/cityscapes"
    assert trained == {f"{root}/stdc{n}_seg_cityscapes_1024x512_80k/model.pdparams" for n in (1, 2)}


def test_a_placed_file_stands_for_a_name_and_the_first_checksum_is_remembered(tmp_path: Path, backbone: Path) -> None:
    folder = tmp_path / "weights"
    placed = folder / "downloads" / "STDCNet1.tar.gz"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(backbone.read_bytes())
    one = wanted("paddleseg-stdc1", "first-seen")
    said = get(one, folder / "a.safetensors")
    digest = files.sha256_file(backbone)
    assert any("which was placed there" in line for line in said)
    assert any(f"first seen with SHA-256 {digest}" in line for line in said)
    (record,) = (folder / "first-seen").iterdir()
    assert json.loads(record.read_text())["sha256"] == digest
    assert f"SHA-256 {digest}" in get(one, folder / "a.safetensors")[-1]
    # Other bytes that hold the same weights are refused all the same.
    arrays: Arrays = array_files.read_pdparams(backbone)
    array_files.write_safetensors(placed, arrays)
    assert "another one than when it was first seen" in get(one, folder / "b.safetensors")[-1]
    assert not (folder / "b.safetensors").exists()


def test_without_a_network_the_file_to_place_is_named_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A port of this machine where nobody listens.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{nobody.getsockname()[1]}/STDCNet1.tar.gz"
        entry = sources.registry()["paddleseg-stdc1"]
        monkeypatch.setattr(fetch, "registry", lambda: {entry.name: dataclasses.replace(entry, address=address)})
        # What a download left that was killed.
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / ".tmp-4711-STDCNet1.tar.gz").touch()
        started = time.monotonic()
        said = get(wanted("paddleseg-stdc1", "first-seen"), tmp_path / "weights" / "w.safetensors")[-1]
    assert time.monotonic() - started < 5
    assert "download failed (" in said and f"place the file as {tmp_path}/weights/downloads/STDCNet1.tar.gz" in said
    assert "start from random weights on purpose: model.pretrained.source: null" in said
    assert [path.name for path in (tmp_path / "weights").iterdir()] == []


# ---- downloads


def test_a_download_over_tls_is_believed_at_first_sight_and_no_other_later(
    tmp_path: Path, backbone: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, f"{certificate}.key")
    content = [backbone.read_bytes()]
    with served(lambda handler: sending(content[0])(handler), tls) as root:
        source = f"{root}/w.pdparams"
        # A certificate that nobody vouches for.
        said = get(wanted(source, "first-seen"), tmp_path / "a.safetensors")[-1]
        assert "download failed" in said and "certificate" in said.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        said_first = get(wanted(source, "first-seen"), tmp_path / "a.safetensors")
        assert any("first seen with SHA-256" in line for line in said_first), said_first
        assert (tmp_path / "a.safetensors").exists()
        content[0] += b"\0"
        said = get(wanted(source, "first-seen"), tmp_path / "b.safetensors")[-1]
        assert "another one than when it was first seen" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "first-seen"]


@pytest.mark.parametrize(
    ("start", "forever"),
    [
        (b"", b"HTTP/1.1 200 OK\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: x\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0000000000"),
    ],
    ids=["status line", "header", "content", "chunks"],
)
def test_a_server_that_drips_is_given_up_at_the_limit(tmp_path: Path, start: bytes, forever: bytes) -> None:
    started = time.monotonic()
    with served(dripping(start, forever)) as root, pytest.raises(InputError, match=r"not done after 1 s|timed out"):
        download(f"{root}/w", tmp_path / "w", Limits(connect_s=1, idle_s=1, whole_s=1))
    assert time.monotonic() - started < 3


def test_a_handshake_that_never_ends_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(InputError, match="download failed"):
            download(f"https://localhost:{silent.getsockname()[1]}/w", tmp_path / "w", Limits(1, 1, 1))
        assert time.monotonic() - started < 3


def test_a_proxy_is_asked_where_the_environment_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        sending(b"through the proxy")(handler)

    with served(answer) as root:
        monkeypatch.setenv("http_proxy", root)
        monkeypatch.delenv("no_proxy", raising=False)
        download("http://example.invalid/w", tmp_path / "w")
    assert asked == ["http://example.invalid/w"] and (tmp_path / "w").read_bytes() == b"through the proxy"


def test_an_early_end_is_told_as_such(tmp_path: Path) -> None:
    with served(sending(b"x" * 100, claimed=1000)) as root, pytest.raises(InputError) as caught:
        download(f"{root}/w", tmp_path / "w")
    assert "the download ended early, after 100 of 1000 bytes" in str(caught.value)


def test_more_than_any_weights_file_is_not_taken(tmp_path: Path) -> None:
    with served(sending(bytes(3 << 20))) as root, pytest.raises(InputError, match="larger than 1 MB"):
        download(f"{root}/w", tmp_path / "w", Limits(most_bytes=1 << 20))


def redirecting(target: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.path == "/here":
            sending(b"content")(handler)
            return
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    return answer


def test_redirects_stay_within_their_scheme(tmp_path: Path) -> None:
    with served(redirecting("/here")) as root:
        download(f"{root}/w", tmp_path / "w")
        assert (tmp_path / "w").read_bytes() == b"content"
    for target in ("file:///etc/passwd", "ftp://localhost/w", "https://localhost/w", "data:text/plain,x"):
        with served(redirecting(target)) as root, pytest.raises(InputError, match="download failed"):
            download(f"{root}/w", tmp_path / "x")
        assert not (tmp_path / "x").exists()


def test_what_a_server_says_is_on_one_line_and_rules_no_terminal(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 500 \x1b[2J\x1b]0;gone\x07 \xe2\x80\xae" + b"x" * 5000 + b"\r\n\r\n"
    with served(lambda handler: void(handler.wfile.write(answer))) as root, pytest.raises(InputError) as caught:
        download(f"{root}/w", tmp_path / "w")
    said = str(caught.value)
    assert "500 \\x1b[2J" in said and said.isprintable() and len(said) < 400


def void(_: object) -> None:
    """For callables that return something nobody wants."""


@pytest.mark.parametrize(
    "source",
    [
        "http://me:hunter2@{host}/w.pdparams",
        "http://{host}/w.pdparams?token=hunter2",
        "http://{host}/w.pdparams#hunter2",
        "http://{host}/w.pdparams;token=hunter2",
        "HTTPS://hunter2@{host}/w",
        "https://me:hunter2@[broken/w.pdparams",
        "me:hunter2@{host}/w.pdparams",
        "{host}/w.pdparams?token=hunter2",
        "//me:hunter2@{host}/w",
    ],
)
def test_a_secret_is_refused_before_anything_is_asked_and_in_no_file(tmp_path: Path, source: str) -> None:
    asked: List[str] = []
    with served(lambda handler: asked.append(handler.path)) as root:
        given = source.format(host=root.partition("://")[2])
        said = get(wanted(given, "0" * 64), tmp_path / "out" / "w.safetensors")
        assert said[-1].startswith("refused: model.pretrained.source: ") and "hunter2" not in "".join(said)
    assert asked == [] and list(tmp_path.rglob("*")) == []
    assert "hunter2" not in sources.shown_source(given)
