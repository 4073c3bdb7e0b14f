"""Set-up from nothing, with an interpreter that only records how it is called: no network, no packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from snakemake_runs import REPOSITORY

#: Answers the questions of install.sh as told by its environment, and makes a "venv" that holds itself.
RECORDER = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
    *version_info*) exit ${{BAD_VERSION:-0}} ;;
    *ensurepip*) exit ${{NO_VENV:-0}} ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *"pip "*" install "*)
        printf '%s\\n' "DEPRECATION: later versions" "WARNING: Retrying" >&2
        exit ${{NO_NETWORK:-0}} ;;
    *"pip "*) exit ${{NO_NETWORK:-0}} ;;
esac
"""


class Checkout:
    """requirements/ in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.log = folder, folder / "calls.log"
        shutil.copytree(REPOSITORY / "requirements", folder / "requirements")
        self.python = folder / "python"
        self.python.write_text(RECORDER.format(log=self.log), encoding="utf-8")
        self.python.chmod(0o755)

    def install(self, **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.unlink(missing_ok=True)
        return subprocess.run(
            [self.folder / "requirements" / "install.sh", "workflow", "build.lock", "workflow.lock"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(self.python), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout")


def test_packages_come_by_hash_from_the_locks_in_order(checkout: Checkout) -> None:
    done = checkout.install()
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["WARNING: Retrying"] * 2, "what pip announces for later versions is left out"
    installs = [line for line in checkout.calls().splitlines() if " install " in line]
    assert [line.rsplit("/", 1)[1] for line in installs] == ["build.lock", "workflow.lock"]
    assert all("--require-hashes --no-deps --only-binary=:all:" in line for line in installs)
    assert "--no-binary=connection-pool --no-build-isolation" in installs[1]


def test_the_second_time_nothing_is_called(checkout: Checkout) -> None:
    checkout.install()
    second = checkout.install(NO_NETWORK="1", BAD_VERSION="1")
    assert (second.returncode, second.stdout, checkout.calls()) == (0, "", "")


def test_another_lock_starts_anew(checkout: Checkout) -> None:
    checkout.install()
    forgotten = checkout.folder / ".venv" / "workflow" / "forgotten"
    forgotten.touch()
    with (checkout.folder / "requirements" / "workflow.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert checkout.install().returncode == 0
    assert not forgotten.exists()


def test_a_moved_checkout_starts_anew(checkout: Checkout, tmp_path: Path) -> None:
    checkout.install()
    moved = Checkout(tmp_path / "other")
    shutil.copytree(checkout.folder / ".venv", moved.folder / ".venv")
    assert moved.install().returncode == 0
    assert "-m venv" in moved.calls()


def test_an_interrupted_set_up_is_completed(checkout: Checkout) -> None:
    failed = checkout.install(NO_NETWORK="1")
    assert failed.returncode != 0
    assert not (checkout.folder / ".venv" / "workflow" / ".installed").exists()
    assert checkout.install().returncode == 0
    assert "-m venv" not in checkout.calls()


def test_an_old_python_is_named_with_the_way_out(checkout: Checkout) -> None:
    refused = checkout.install(BAD_VERSION="1")
    assert refused.returncode == 2
    assert "no Python 3.11, 3.12 or 3.13" in refused.stderr
    assert "make setup PYTHON=" in refused.stderr


def test_a_python_without_venv_names_the_package(checkout: Checkout) -> None:
    refused = checkout.install(NO_VENV="1")
    assert refused.returncode == 2
    assert "apt install python3-venv" in refused.stderr
    assert not (checkout.folder / ".venv" / "workflow").exists()


def outside(checkout: Checkout, stamp: str) -> Path:
    """An environment that is not this checkout's."""
    place = checkout.folder.parent / "theirs"
    for name in ("workflow", "train"):
        (place / name / "bin").mkdir(parents=True)
        shutil.copy2(checkout.python, place / name / "bin" / "python")
        (place / name / ".installed").write_text(stamp, encoding="utf-8")
    return place


def files(folder: Path) -> dict:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("link", [".venv", ".venv/workflow"])
def test_an_environment_behind_a_link_is_never_deleted(checkout: Checkout, link: str) -> None:
    theirs = outside(checkout, "/elsewhere/.venv/workflow of-other-locks")
    before = files(theirs)
    (checkout.folder / link).parent.mkdir(exist_ok=True)
    (checkout.folder / link).symlink_to(theirs if link == ".venv" else theirs / "workflow")
    done = checkout.install()
    assert done.returncode == 0, done.stderr
    assert f"{link} is a link to" in done.stdout
    assert files(theirs) == before
    assert not (checkout.folder / link).is_symlink()
    assert (checkout.folder / ".venv" / "workflow" / ".installed").is_file()


def test_a_linked_environment_that_fits_is_used_as_it_is(checkout: Checkout) -> None:
    assert checkout.install().returncode == 0
    stamp = (checkout.folder / ".venv" / "workflow" / ".installed").read_text(encoding="utf-8").split()[-1]
    theirs = outside(checkout, f"/elsewhere/.venv/workflow {stamp}")
    before = files(theirs)
    shutil.rmtree(checkout.folder / ".venv")
    (checkout.folder / ".venv").symlink_to(theirs)
    done = checkout.install()
    assert (done.returncode, done.stdout) == (0, "")
    assert files(theirs) == before
    assert (checkout.folder / ".venv").is_symlink()


def test_the_old_environment_comes_back_where_the_new_one_fails(checkout: Checkout) -> None:
    assert checkout.install().returncode == 0
    workflow = checkout.folder / ".venv" / "workflow"
    (workflow / "mark").touch()
    with (checkout.folder / "requirements" / "workflow.lock").open("a", encoding="utf-8") as lock:
        lock.write("# another\n")
    assert checkout.install(NO_NETWORK="1").returncode != 0
    assert (workflow / "mark").is_file()
    assert checkout.install().returncode == 0
    assert not (workflow / "mark").exists()
    assert sorted(path.name for path in (checkout.folder / ".venv").iterdir()) == [".lock", "workflow"]


@pytest.mark.parametrize(("works", "expected"), [(True, 0), (False, 2)])
def test_uv_is_used_where_it_is_and_pip_where_it_fails(checkout: Checkout, works: bool, expected: int) -> None:
    uv = checkout.folder / "uv"
    uv.write_text(f'#!/bin/sh\necho "uv $@" >> "{checkout.log}"\nexit {0 if works else 1}\n', encoding="utf-8")
    uv.chmod(0o755)
    assert checkout.install(UV=str(uv)).returncode == 0
    calls = checkout.calls().splitlines()
    with_uv = [line for line in calls if line.startswith("uv pip install")]
    assert len(with_uv) == 2 and all("--require-hashes --no-deps --only-binary=:all:" in line for line in with_uv)
    assert len([line for line in calls if "-m pip" in line and " install " in line]) == expected
