"""Home folders and working directories that cannot be written, or are somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow" / "lib"))

import work_folders


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def test_home_that_can_be_written_is_used_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work_folders.find_places()
    assert "XDG_CACHE_HOME" not in os.environ and capsys.readouterr().err == ""


@pytest.mark.parametrize("home", ["/proc", "/dev/full"])
def test_home_that_cannot_be_written_is_told_and_another_place_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: str
) -> None:
    monkeypatch.setenv("HOME", home)
    work_folders.find_places()
    place = tmp_path / f"stdc-home-{os.getuid()}"
    assert os.environ["HOME"] == str(place) and place.stat().st_mode & 0o777 == 0o700
    told = capsys.readouterr().err
    assert told.startswith(f"stdc: {home}: ") and f"{place} takes its place in this run (HOME" in told
    assert len(told.splitlines()) == 1
    # The next run, and the jobs of this one, use it without another word.
    work_folders.find_places()
    assert capsys.readouterr().err == ""


def test_folder_that_somebody_else_has_made_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/full")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"stdc-home-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    work_folders.find_places()
    place = Path(os.environ["XDG_CACHE_HOME"])
    assert place.parent == tmp_path and place.name != f"stdc-home-{os.getuid()}" and place.is_dir()


def as_another_user(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a child that has given up root; the folders above `folder` let it pass."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    closed = {parent: parent.stat().st_mode for parent in folder.parents if not parent.stat().st_mode & 0o001}
    for parent, mode in closed.items():
        parent.chmod(mode | 0o001)
    library = Path(work_folders.__file__).read_text(encoding="utf-8").replace("from __future__ import annotations", "")
    # Imported while this interpreter's folder can still be read.
    program = f"{library}\nos.setgid(54321)\nos.setuid(54321)\n{code}"
    try:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/")
    finally:
        for parent, mode in closed.items():
            parent.chmod(mode)


def test_working_directory_of_ones_own_is_taken(tmp_path: Path) -> None:
    work_folders.refuse_unwritable(["--directory", str(tmp_path)])
    work_folders.refuse_unwritable([f"--directory={tmp_path}", "-n"])


@pytest.mark.parametrize("given", [["--directory", "{}"], ["--directory={}"], ["-d", "{}"]])
def test_working_directory_that_cannot_be_written_is_told(tmp_path: Path, given: List[str]) -> None:
    folder = tmp_path / "roots"
    folder.mkdir(mode=0o755)
    result = as_another_user(f"refuse_unwritable({[word.format(folder) for word in given]!r})", folder)
    assert result.returncode == 1
    assert (
        result.stderr == f"stdc: {folder}: Permission denied; work in a folder of your own, which --directory names\n"
    )


def test_run_of_another_user_in_a_shared_folder_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    (folder / ".snakemake").mkdir(parents=True)
    folder.chmod(0o777)
    result = as_another_user(f"refuse_unwritable(['--directory', {str(folder)!r}])", folder)
    assert result.returncode == 1
    assert result.stderr.startswith(f"stdc: {folder}: user 0 has a run here, and this is user 54321; ")
