"""The cpu image: built, and the mini recipe run inside, interrupted once, gives the bytes that it gives here.

`make image-test`; in CI only where a Docker engine answers. Needs a running engine, or `dockerd` and root to start one;
and a Debian base image, which is made by debootstrap where CPU_BASE_IMAGE does not name one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
#: A user that no image knows.
USER = 12345
GUARDS = ["--network", "none", "--read-only", "--tmpfs", "/tmp:exec", "--cap-drop", "ALL"]
GUARDS += ["--security-opt", "no-new-privileges", "--user", f"{USER}:{USER}"]
#: Of the mini recipe: what must be the same everywhere. Histories and provenance hold times.
SAME = ("resources/*/manifest.json", "resources/*/labels.json", "resources/*/lists-*/*.txt")
SAME += ("resources/*/dataset/**/*.png", "resources/*/labels/**/*.png", "results/mini/seed0/*.pdparams")
SAME += ("results/mini/seed0/metrics*.json",)

pytestmark = [pytest.mark.image, pytest.mark.timeout(3600)]


class Engine:
    """A Docker engine and the client that speaks to it.

    Args:
        host: value of DOCKER_HOST; None: the client's default.
    """

    def __init__(self, host: str | None) -> None:
        self.environment = {**os.environ, **({"DOCKER_HOST": host} if host else {})}

    def docker(self, *arguments: object, check: bool = True, timeout_s: float = 900) -> str:
        """Standard output of a docker command."""
        result = self.call(*arguments, timeout_s=timeout_s)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def call(self, *arguments: object, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a docker command."""
        command = ["docker", *map(str, arguments)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )


def answers(host: str | None) -> bool:
    """Whether an engine is there."""
    return Engine(host).call("version", timeout_s=30).returncode == 0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    asked, in_ci = (os.environ.get(name, "") in ("1", "true") for name in ("STDC_IMAGE_TEST", "CI"))
    if not asked and not in_ci:
        pytest.skip("images are not built and run here: STDC_IMAGE_TEST is not 1 (make image-test)")
    if shutil.which("docker") is None:
        pytest.skip("images are not built and run: no docker client on this machine")
    if not asked and not answers(None):
        # CI takes an engine that is there; it does not start one of its own.
        pytest.skip("images are not built and run in CI: no Docker engine answers (make image-test starts one)")
    if answers(None):
        yield Engine(None)
        return
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        pytest.skip("images are not built and run: no Docker engine answers, and none can be started (dockerd, root)")
    folder = tmp_path_factory.mktemp("engine")
    started = subprocess.run([DOCKER / "engine.sh", "start", folder], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        pytest.skip(f"images are not built and run: dockerd does not start here: {started.stderr.strip()[-300:]}")
    try:
        yield Engine(started.stdout.strip())
    finally:
        subprocess.run([DOCKER / "engine.sh", "stop", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    base = os.environ.get("CPU_BASE_IMAGE") or "local/debian:bookworm"
    if engine.call("image", "inspect", base).returncode != 0 and "CPU_BASE_IMAGE" not in os.environ:
        if shutil.which("debootstrap") is None or os.geteuid() != 0:
            pytest.skip("images are not built and run: no base image (CPU_BASE_IMAGE), no debootstrap to make one")
        made = [DOCKER / "base_image.sh", "bookworm", base]
        subprocess.run(made, env=engine.environment, check=True, timeout=600, stdout=subprocess.DEVNULL)
    engine.environment["CPU_BASE_IMAGE"] = base
    build(engine)
    return "stdc:cpu"


def build(engine: Engine, *options: str) -> None:
    environment = dict(engine.environment)
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle:
        environment.setdefault("CA_BUNDLE", bundle)
    command = [DOCKER / "build.sh", "cpu", *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]


@pytest.fixture(scope="module")
def inside(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the mini recipe from the container, stopped once on the way."""
    results = tmp_path_factory.mktemp("inside")
    os.chown(results, USER, USER)
    name = f"stdc-test-{os.getpid()}"
    command: List[object] = ["run", *GUARDS, "-v", f"{results}:/results"]
    engine.docker(*command, "--detach", "--name", name, image, "--cores", "all")
    try:
        deadline = time.monotonic() + 1200
        while time.monotonic() < deadline and not list(results.glob("runs/*/checkpoints/*/manifest.json")):
            running = engine.docker("inspect", "--format", "{{.State.Running}}", name).strip()
            assert running == "true", engine.call("logs", name).stderr[-4000:]
            time.sleep(1)
        engine.docker("stop", "--time", 120, name)
        stopped = json.loads(engine.docker("inspect", "--format", "{{json .State}}", name))
        log = engine.call("logs", name).stderr
    finally:
        engine.call("rm", "--force", name)
    # Ended by itself, not killed after the time given, and says that another start goes on.
    assert stopped["ExitCode"] == 75, log[-4000:]
    assert "the state is saved" in log, log[-4000:]
    assert not (results / "results/mini/report.html").exists()
    again = engine.call(*command, "--rm", image, "--cores", "all", timeout_s=2400)
    assert again.returncode == 0, (again.stdout + again.stderr)[-4000:]
    assert "resum" in again.stdout + again.stderr, (again.stdout + again.stderr)[-4000:]
    return results


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the mini recipe from this checkout."""
    folder = tmp_path_factory.mktemp("here")
    python = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(REPOSITORY / ".venv" / "workflow" / "bin" / "python")
    command = [python, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "all"]
    command += ["--directory", str(folder)]
    environment = {**os.environ, "STDC_PYTHON": sys.executable}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2400, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return folder


def hashes(folder: Path) -> Dict[str, str]:
    files = [path for pattern in SAME for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def test_container_gives_the_bytes_of_the_host(inside: Path, here: Path) -> None:
    expected = hashes(here)
    assert {Path(name).name for name in expected} >= {"model.pdparams", "best.pdparams", "metrics.json", "val.txt"}
    assert hashes(inside) == expected


def test_results_belong_to_the_caller_and_the_report_is_there(inside: Path) -> None:
    assert (inside / "results/mini/report.html").stat().st_size > 1000
    owners = {path.stat().st_uid for path in inside.rglob("*")}
    assert owners == {USER}


def test_provenance_in_the_image_knows_the_commit(engine: Engine, image: str, inside: Path) -> None:
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    revision = engine.docker("inspect", "--format", label, image).strip()
    assert len(revision) == 40
    provenance = json.loads((inside / "results/mini/seed0/provenance.json").read_text(encoding="utf-8"))
    assert provenance["commit"] == revision


def test_doctor_in_the_image_finds_no_problem_without_any_network(engine: Engine, image: str) -> None:
    result = engine.call("run", "--rm", *GUARDS, image, "doctor", timeout_s=300)
    assert result.returncode == 0, result.stderr
    assert "all-reduce" in result.stderr and "0 problems" in result.stderr


def test_dataset_is_mounted_read_only_and_a_missing_one_is_told(engine: Engine, image: str) -> None:
    result = engine.call("run", "--rm", *GUARDS, image, "--cores", "1", "--config", "dataset=/data/nothing")
    assert result.returncode == 2
    assert "/data/nothing: no such folder" in result.stderr
    assert "Traceback" not in result.stderr


def test_secrets_of_the_build_are_in_no_layer(engine: Engine, image: str) -> None:
    history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    bundle = os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    assert bundle not in history
    found = engine.docker("run", "--rm", *GUARDS, "--entrypoint", "ls", image, "/run/secrets", check=False)
    assert found == ""


def test_image_is_small_and_no_program_in_it_has_another_users_rights(engine: Engine, image: str) -> None:
    assert int(engine.docker("image", "inspect", "--format", "{{.Size}}", image)) <= 1.75e9
    find = ["--entrypoint", "find", "--user", "0:0", image, "/", "-xdev", "-type", "f", "-perm", "/6000"]
    assert engine.docker("run", "--rm", "--network", "none", *find) == ""


def content(engine: Engine, image: str) -> Dict[str, tuple]:
    """Everything in an image by name: kind, rights, owner, and the digest or the target."""
    name = engine.docker("create", image).strip()
    found = {}
    try:
        export = subprocess.Popen(["docker", "export", name], env=engine.environment, stdout=subprocess.PIPE)
        with export, tarfile.open(fileobj=export.stdout, mode="r|") as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.isreg() else None
                digest = hashlib.sha256(file.read()).hexdigest() if file else entry.linkname
                found[entry.name] = (entry.type, entry.mode, entry.uid, entry.gid, digest)
    finally:
        engine.docker("rm", name)
    return found


def test_two_builds_of_a_commit_are_equal_in_content(engine: Engine, image: str) -> None:
    first = content(engine, image)
    engine.docker("tag", image, "stdc:first")
    build(engine, "--no-cache")
    second = content(engine, image)
    assert sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name)) == []


def test_results_folder_of_somebody_else_is_told_in_a_line(
    engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("roots")
    result = engine.call("run", "--rm", *GUARDS, "-v", f"{folder}:/results", image)
    assert result.returncode == 2
    assert f"stdc: /results: user {USER}:{USER} cannot write there (it belongs to 0:0" in result.stderr
    assert "Traceback" not in result.stderr


def test_want_of_memory_is_told_with_what_to_lower(
    engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("memory")
    os.chown(folder, USER, USER)
    command = ["run", "--rm", *GUARDS, "--memory", "400m", "--memory-swap", "400m", "-v", f"{folder}:/results", image]
    result = engine.call(*command, "--cores", "1", timeout_s=600)
    assert result.returncode in (1, 137), result.stderr[-4000:]
    assert "want of memory" in result.stderr and "limits.memory" in result.stderr


def test_a_shell_can_be_had(engine: Engine, image: str) -> None:
    assert engine.docker("run", "--rm", *GUARDS, image, "bash", "-c", "echo $STDC_PYTHON") == "/opt/train/bin/python\n"


def test_image_is_guarded_by_default(engine: Engine, image: str) -> None:
    config = json.loads(engine.docker("inspect", "--format", "{{json .Config}}", image))
    assert config["User"] == "10001:10001"
    assert not any("SECRET" in variable or "TOKEN" in variable for variable in config["Env"])
    whoami = engine.docker("run", "--rm", "--network", "none", "--entrypoint", "id", image, "-u")
    assert whoami.strip() == "10001"
