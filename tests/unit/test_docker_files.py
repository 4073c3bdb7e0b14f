"""What the images promise, read from their files; building and running them is `tests/containers`."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
STDC_IMAGES = [path for path in DOCKERFILES if path.name != "python.Dockerfile"]


def name_of(path: Path) -> str:
    return path.name


def instructions(path: Path) -> List[Tuple[str, str]]:
    """(instruction, arguments) in order; comments left out, continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last_stage(path: Path) -> List[Tuple[str, str]]:
    steps = instructions(path)
    start = max(index for index, (word, _) in enumerate(steps) if word == "FROM")
    return steps[start:]


def test_there_is_an_image_for_each_device() -> None:
    assert {path.stem for path in DOCKERFILES} == {"python", "cpu", "cuda", "corex"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=name_of)
def test_images_run_as_a_numeric_user_other_than_root(path: Path) -> None:
    users = [rest for word, rest in last_stage(path) if word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


@pytest.mark.parametrize("path", DOCKERFILES, ids=name_of)
def test_bases_are_arguments(path: Path) -> None:
    for word, rest in instructions(path):
        if word == "FROM":
            assert re.match(r"\$\{\w+\}|scratch$|base |python-base ", rest), rest


@pytest.mark.parametrize("path", DOCKERFILES, ids=name_of)
def test_images_carry_the_commit_in_their_labels(path: Path) -> None:
    labels = " ".join(rest for word, rest in last_stage(path) if word == "LABEL")
    assert 'org.opencontainers.image.revision="${REVISION}"' in labels
    assert "org.opencontainers.image.licenses=" in labels


@pytest.mark.parametrize("path", DOCKERFILES, ids=name_of)
def test_dockerfiles_stay_inside_what_old_engines_build(path: Path) -> None:
    """Docker 20.10 without a frontend from a registry, and buildah."""
    text = path.read_text(encoding="utf-8")
    assert "# syntax=" not in text
    assert not re.search(r"<<-?['\"]?EOF", text)
    for word, rest in instructions(path):
        assert not (word in ("COPY", "ADD") and re.search(r"--(link|checksum|exclude|parents)", rest)), rest


@pytest.mark.parametrize("path", STDC_IMAGES, ids=name_of)
def test_what_is_installed_is_held_by_hashes_and_secrets_stay_in_mounts(path: Path) -> None:
    steps = instructions(path)
    for word, rest in steps:
        if word == "RUN":
            assert "pip install" not in rest, "packages come from locks, by create_venv.sh"
            if "create_venv.sh" in rest:
                assert "--mount=type=secret,id=ca_bundle,required=false" in rest
        assert not re.search(r"(?i)password|token|index_url", rest)
    assert "--require-hashes" in (DOCKER / "create_venv.sh").read_text()
    # Only what was built and what runs moves on: no locks, no wheels, no compilers.
    copied = [rest.split()[:-1] for word, rest in last_stage(path) if word == "COPY"]
    assert copied == [
        ["--from=builder", "/opt/workflow"],
        ["--from=builder", "/opt/train"],
        ["Snakefile", "pyproject.toml", "LICENSE*"],
        *([folder] for folder in ("config", "profiles", "workflow", "tools", "stdc")),
        ["docker/entrypoint.sh"],
    ]


@pytest.mark.parametrize("path", STDC_IMAGES, ids=name_of)
def test_images_know_both_interpreters_and_where_the_run_works(path: Path) -> None:
    steps = last_stage(path)
    environment = " ".join(rest for word, rest in steps if word == "ENV")
    assert "STDC_PYTHON=/opt/train/bin/python" in environment
    assert "PATH=/opt/workflow/bin:" in environment
    assert "STDC_COMMIT=" in environment
    assert "HOME=/tmp" in environment
    assert ("ENTRYPOINT", '["/opt/stdc/docker/entrypoint.sh"]') in steps
    assert ("VOLUME", '["/results"]') in steps


@pytest.mark.parametrize("path", STDC_IMAGES, ids=name_of)
def test_locks_and_profiles_that_images_name_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    for lock in re.findall(r"requirements/(\S+\.lock)", text):
        assert (REPOSITORY / "requirements" / lock).is_file()
    if "TRAIN_LOCK" in defaults:
        assert (REPOSITORY / "requirements" / defaults["TRAIN_LOCK"]).is_file()
    for profile in re.findall(r"SNAKEMAKE_PROFILE=/opt/stdc/(\S+)", text):
        assert (REPOSITORY / profile / "config.yaml").is_file()


# ---- the build context


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file out; the last pattern that matches decides, `**` crosses folders."""
    verdict = False
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keep = pattern.startswith("!")
        pattern = pattern.lstrip("!")
        folders = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        if pattern == "**" or any(_matches(part, pattern) for part in folders):
            verdict = not keep
    return verdict


def _matches(path: str, pattern: str) -> bool:
    regex = "".join(
        {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(part) or re.escape(part)
        for part in re.split(r"(\*\*/|\*\*|\*)", pattern)
        if part
    )
    return re.fullmatch(regex, path) is not None


@pytest.mark.parametrize(
    "path",
    [
        "Snakefile",
        "workflow/rules/train.smk",
        "workflow/scripts/train.py",
        "workflow/schemas/config.schema.yaml",
        "stdc/training/loop.py",
        "stdc/published/reference.yaml",
        "config/config.yaml",
        "profiles/default/config.yaml",
        "requirements/workflow.lock",
        "docker/entrypoint.sh",
        "docker/wheels/SHA256SUMS",
    ],
)
def test_what_the_images_need_is_in_the_build_context(path: str) -> None:
    assert not ignored(path)


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        ".venv/train/bin/python",
        "results/mini/seed0/model.pdparams",
        "resources/x/dataset/leftImg8bit/train/a/a_000000_000000_leftImg8bit.png",
        "runs/0/checkpoints/1/model.safetensors",
        "leftImg8bit_trainvaltest.zip",
        "id_rsa",
        "tests/unit/test_docker_files.py",
        "stdc/training/__pycache__/loop.cpython-311.pyc",
        "docker/cpu.Dockerfile",
    ],
)
def test_data_and_credentials_stay_out_of_the_build_context(path: str) -> None:
    assert ignored(path)


# ---- compose


def services() -> Dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"])


def test_compose_services_are_guarded_and_mount_the_dataset_read_only() -> None:
    for name, service in services().items():
        assert any(volume.endswith(":/data:ro") for volume in service["volumes"]), name
        assert service["read_only"] is True
        assert service["network_mode"] == "none"
        if name != "corex-privileged":
            assert service["cap_drop"] == ["ALL"]
            assert not service.get("privileged")
    assert services()["cuda"]["shm_size"] == services()["corex"]["shm_size"] == "8gb"


def test_compose_file_is_valid() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker client here")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this docker client has no compose plugin")
    command = ["docker", "compose", "--file", str(DOCKER / "compose.yaml"), "config", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


# ---- scripts


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.sh")), ids=name_of)
def test_scripts_are_valid_shell_and_executable(path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert path.stat().st_mode & 0o111


def entrypoint(tmp_path: Path, snakemake: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The images' first process, with a Snakemake of the test's own."""
    program = tmp_path / "bin" / "snakemake"
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\n{snakemake}\n")
    program.chmod(0o755)
    variables = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "STDC_DIRECTORY": str(tmp_path)}
    return subprocess.Popen(
        [str(DOCKER / "entrypoint.sh"), *arguments],
        env={**variables, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_entrypoint_hands_arguments_over_and_the_exit_code_back(tmp_path: Path) -> None:
    snakemake = 'printf "%s\\n" "$@"; echo "profile ${SNAKEMAKE_PROFILE-none}"; exit 2'
    process = entrypoint(tmp_path, snakemake, "--cores", "a b", SNAKEMAKE_PROFILE="")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert output.splitlines() == [
        *("--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(tmp_path), "--cores", "a b"),
        "profile none",
    ]


def test_stop_request_reaches_every_process_below_and_none_beside(tmp_path: Path) -> None:
    """`docker stop` of a container that shares the host's processes must not end the host's."""
    beside = subprocess.Popen(["sleep", "60"])
    worker = "trap 'echo saved > saved; exit 75' TERM; echo up > up; while :; do sleep 0.05; done"
    process = entrypoint(tmp_path, f'cd "{tmp_path}"; (setsid bash -c {shlex.quote(worker)}); exit $?')
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "up").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.terminate()
        _, messages = process.communicate(timeout=20)
        assert process.returncode == 75
        deadline = time.monotonic() + 5
        while not (tmp_path / "saved").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / "saved").read_text() == "saved\n"
        assert "stop requested" in messages
        assert beside.poll() is None
    finally:
        beside.kill()
        beside.wait()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ["--cores", "all"]),
        (("report",), ["--cores", "all", "report"]),
        (("--", "report"), ["--cores", "all", "--", "report"]),
        (("-n",), ["--cores", "all", "-n"]),
        (("-c1", "report"), ["-c1", "report"]),
        (("--cores=2",), ["--cores=2"]),
        (("--profile", "mine"), ["--profile", "mine"]),
        (("snakemake", "--cores", "1"), ["--cores", "1"]),
    ],
)
def test_targets_and_options_alone_run_on_all_cores(
    tmp_path: Path, given: Tuple[str, ...], expected: List[str]
) -> None:
    output, _ = entrypoint(tmp_path, 'printf "%s\\n" "$@"', *given).communicate(timeout=20)
    assert output.splitlines()[4:] == expected


def test_shell_in_the_image_is_a_shell(tmp_path: Path) -> None:
    process = entrypoint(tmp_path, "echo snakemake", "bash", "-c", "echo $((40 + 2)); exit 3")
    output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("42\n", 3)


def test_results_folder_that_is_not_there_or_not_writable_is_told(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root with setpriv can become a user who may not write here")
    folder = tmp_path / "results"
    folder.mkdir()
    for path, words in ((folder, "it belongs to 0:0, mode 755"), (tmp_path / "none", "there is no such folder")):
        # The test's own folders are closed to others; what is tried is a folder that can be seen.
        command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=-all"]
        tmp_path.chmod(0o755)
        variables = {"PATH": os.environ["PATH"], "STDC_DIRECTORY": str(path)}
        opened = tmp_path / "entrypoint.sh"
        opened.write_text((DOCKER / "entrypoint.sh").read_text(encoding="utf-8"))
        opened.chmod(0o755)
        with reachable(tmp_path):
            result = subprocess.run([*command, str(opened)], env=variables, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert result.stderr.startswith(f"stdc: {path}: user 54321:54321 cannot write there ({words}).")
        assert len(result.stderr.splitlines()) == 1 and "docker run --user" in result.stderr


@contextlib.contextmanager
def reachable(folder: Path) -> Iterator[None]:
    """Let every user pass through the folders above one."""
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & 0o001]
    modes = [parent.stat().st_mode for parent in closed]
    for parent, mode in zip(closed, modes):
        parent.chmod(mode | 0o001)
    try:
        yield
    finally:
        for parent, mode in zip(closed, modes):
            parent.chmod(mode)


def test_snakemake_killed_for_want_of_memory_is_told(tmp_path: Path) -> None:
    process = entrypoint(tmp_path, "kill -KILL $$")
    _, messages = process.communicate(timeout=20)
    assert process.returncode == 137
    assert "most often for want of memory" in messages and "limits.memory" in messages


@pytest.mark.parametrize("path", STDC_IMAGES, ids=name_of)
def test_images_are_equal_in_every_build_and_grant_no_rights(path: Path) -> None:
    """Compiled files without times, no logs and caches, no program that runs with another user's rights."""
    runs = [rest for word, rest in instructions(path) if word == "RUN"]
    made = max(number for number, rest in enumerate(runs) if "create_venv.sh" in rest or "install_wheels.sh" in rest)
    finished = next(number for number, rest in enumerate(runs) if "finish_venv.sh /opt/workflow /opt/train" in rest)
    assert finished >= made
    assert "/var/cache/apt/* /var/cache/ldconfig/* /var/log/*" in runs[0]
    assert "find / -xdev -type f -perm /6000 -exec chmod a-s {} +" in runs[0]


def test_finished_environments_are_equal_and_hold_no_installer(tmp_path: Path) -> None:
    """Made at different times, of files with different times."""
    contents = []
    for number in (1, 2):
        folder = tmp_path / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (packages,) = folder.glob("lib/python3*/site-packages")
        for name in ("pip/__init__.py", "paddle/include/a.h", "pandas/tests/test_a.py", "pandas/core.py"):
            path = packages / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("value = 1\n")
            os.utime(path, (number * 1e9, number * 1e9))
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(packages)], check=True)
        subprocess.run([str(DOCKER / "finish_venv.sh"), str(folder)], check=True)
        contents.append(
            {
                str(path.relative_to(folder)): (path.lstat().st_mtime, path.read_bytes())
                for path in folder.rglob("*")
                if path.is_file() and not path.is_symlink()
            }
        )
        shutil.rmtree(folder)
    assert contents[0] == contents[1]
    names = {Path(name).name for name in contents[0]}
    assert f"core.{sys.implementation.cache_tag}.pyc" in names
    assert not names & {"a.h", "test_a.py", f"__init__.{sys.implementation.cache_tag}.pyc"}


def test_build_script_names_the_images_there_are() -> None:
    result = subprocess.run([str(DOCKER / "build.sh"), "gpu"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "corex cpu cuda python" in result.stderr


def install_wheels(tmp_path: Path, python: str = "false") -> subprocess.CompletedProcess[str]:
    command = ["bash", str(DOCKER / "install_wheels.sh"), python, str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_wheels_without_checksums_are_refused(tmp_path: Path) -> None:
    (tmp_path / "paddlepaddle-2.4.1-cp38-cp38-linux_x86_64.whl").write_bytes(b"wheel")
    result = install_wheels(tmp_path)
    assert result.returncode == 1
    assert "no SHA256SUMS" in result.stderr


def test_wheels_with_another_checksum_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"wheel")
    (tmp_path / "SHA256SUMS").write_text("0" * 64 + "  a.whl\n")
    result = install_wheels(tmp_path)
    assert result.returncode == 1
    assert "a.whl: FAILED" in result.stdout


def test_wheels_that_no_checksum_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"")
    (tmp_path / "b.whl").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "SHA256SUMS").write_text(f"{empty}  a.whl\n")
    result = install_wheels(tmp_path)
    assert result.returncode == 1
    assert "b.whl is not in SHA256SUMS" in result.stderr


def test_base_without_paddle_needs_wheels(tmp_path: Path) -> None:
    result = install_wheels(tmp_path)
    assert result.returncode == 1
    assert "paddlepaddle-2.4.1+corex.3.1.0" in result.stderr


# ---- locks


@pytest.mark.parametrize("name", ["paddle-cuda.lock", "paddle-corex.lock", "paddle-corex3.lock"])
def test_locks_hold_every_package_by_hash_and_name_no_index(name: str) -> None:
    text = (REPOSITORY / "requirements" / name).read_text(encoding="utf-8")
    packages = re.findall(r"^([a-z][\w.-]*)==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[a-z][\w.-]*==", text, re.MULTILINE)) > 40
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)
    # The PyPI package of this name would shadow the standard library.
    assert "typing" not in packages


@pytest.mark.parametrize(
    ("name", "pins"),
    [
        ("paddle-cuda.lock", ["paddlepaddle-gpu==2.6.2", "numpy==1.*", "protobuf==[456].*"]),
        ("paddle-corex.lock", ["numpy==1.2[0-3].*", "protobuf==3.20.3"]),
        ("paddle-corex3.lock", ["paddlepaddle==3.3.0", "numpy==2.*"]),
    ],
)
def test_locks_pin_what_their_paddle_works_with(name: str, pins: List[str]) -> None:
    found = re.findall(r"^(\S+==\S+)", (REPOSITORY / "requirements" / name).read_text(encoding="utf-8"), re.MULTILINE)
    for pin in pins:
        assert fnmatch.filter(found, pin), pin


def test_versioned_libraries_get_the_names_that_paddle_opens(tmp_path: Path) -> None:
    """As in the cuda image: libraries with a version alone, found by the loader's cache, and links beside them."""
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    if shutil.which("gcc") is None or not Path(ldconfig).exists():
        pytest.skip("no gcc or no ldconfig on this machine to make libraries with")
    vendor, links, cache = tmp_path / "vendor", tmp_path / "links", tmp_path / "ld.so.cache"
    vendor.mkdir()
    links.mkdir()
    configuration = tmp_path / "ld.so.conf"
    configuration.write_text(f"{vendor}\n{links}\n")
    source = tmp_path / "empty.c"
    source.write_text("int nothing;\n")
    for name in ("libcudnn.so.8", "libcublas.so.11"):
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", str(source), "-o", str(vendor / name)], check=True
        )
    # This one has its development link, as in an image for development.
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", str(source), "-o", str(vendor / "libnccl.so.2")],
        check=True,
    )
    (vendor / "libnccl.so").symlink_to("libnccl.so.2")
    script = REPOSITORY / "docker" / "link_libraries.sh"
    environment = {**os.environ, "LDCONFIG_OPTIONS": f"-C {cache} -f {configuration}"}
    subprocess.run(["bash", str(script), str(links)], env=environment, check=True, capture_output=True, text=True)
    assert {path.name: os.readlink(path) for path in links.iterdir()} == {
        "libcudnn.so": str(vendor / "libcudnn.so.8"),
        "libcublas.so": str(vendor / "libcublas.so.11"),
    }
    known = subprocess.run([ldconfig, "-C", str(cache), "-p"], check=True, capture_output=True, text=True).stdout
    for name in ("libcudnn.so", "libcublas.so", "libnccl.so"):
        assert f"\t{name} (" in known, "the loader finds the name that Paddle opens"


def test_the_cuda_image_is_refused_where_a_library_is_not_found() -> None:
    text = (REPOSITORY / "docker" / "cuda.Dockerfile").read_text(encoding="utf-8")
    assert text.index("link_libraries.sh") < text.index("from stdc.doctor.libraries import require; require()")
    assert "ARG CHECK_LIBRARIES=1\n" in text
    from stdc.doctor import libraries

    linked = re.search(r"for name in ([\w ]+); do", (REPOSITORY / "docker" / "link_libraries.sh").read_text())
    assert linked and {f"lib{name}.so" for name in linked[1].split()} == set(libraries.OPENED_BY_PADDLE_2)


def test_lock_of_paddle_3_for_cuda_asks_for_the_index_it_needs() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PADDLE_INDEX"}
    script = REPOSITORY / "requirements" / "lock_cuda3.sh"
    result = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "PADDLE_INDEX=<address of Paddle's package index for your CUDA>" in result.stderr
