"""A finished training survives the deletion of its outputs, also without its run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import pytest

from stdc import files
from stdc.training import finished


@pytest.fixture
def outputs(tmp_path: Path) -> List[Path]:
    paths = [tmp_path / name for name in ("model.pdparams", "history.jsonl", "vdl")]
    for path in paths[:2]:
        path.write_text(f"content of {path.name}", encoding="utf-8")
    paths[2].mkdir()
    (paths[2] / "records").write_text("records", encoding="utf-8")
    finished.keep(paths, "hash")
    return paths


def delete(outputs: List[Path]) -> None:
    """As Snakemake does before it starts a job again."""
    for path in outputs[:2]:
        path.unlink()
    (outputs[2] / "records").unlink()
    outputs[2].rmdir()


def test_deleted_outputs_of_the_same_run_come_back(outputs: List[Path]) -> None:
    delete(outputs)
    assert finished.restore(outputs, "hash")
    assert outputs[0].read_text(encoding="utf-8") == "content of model.pdparams"
    assert (outputs[2] / "records").read_text(encoding="utf-8") == "records"
    # And a second time.
    delete(outputs)
    assert finished.restore(outputs[:2], "hash")
    assert not outputs[2].exists()


def test_outputs_of_another_run_or_changed_ones_do_not(outputs: List[Path]) -> None:
    delete(outputs)
    assert not finished.restore(outputs, "other hash")
    assert not finished.restore([*outputs, outputs[0].with_name("best.pdparams")], "hash")
    kept = outputs[0].parent / finished.FOLDER
    (kept / "history.jsonl").write_text("edited", encoding="utf-8")
    assert not finished.restore(outputs, "hash")
    assert not outputs[0].exists()
    (kept / "finished.json").write_text("[]", encoding="utf-8")
    assert not finished.restore(outputs, "hash")


def test_a_later_run_takes_the_place_of_the_earlier_one(outputs: List[Path]) -> None:
    outputs[0].unlink()
    outputs[0].write_text("new", encoding="utf-8")
    finished.keep(outputs[:1], "new hash")
    kept = outputs[0].parent / finished.FOLDER
    assert sorted(path.name for path in kept.iterdir()) == ["finished.json", "model.pdparams"]
    assert not finished.restore(outputs, "hash")
    assert finished.restore(outputs[:1], "new hash")


def test_a_file_system_without_links_is_no_fault(outputs: List[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    finished.keep(outputs, "another")
    assert not list(outputs[0].parent.glob(".tmp-*"))
    assert not finished.restore(outputs, "another")


def test_outputs_in_several_folders_are_not_kept_and_no_fault(outputs: List[Path], tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere.jsonl"
    elsewhere.write_text("history", encoding="utf-8")
    finished.keep([outputs[0], elsewhere], "later")
    assert not finished.restore([outputs[0], elsewhere], "later")
    # What was kept before is of another run.
    assert not finished.restore(outputs, "later")


def test_a_file_system_that_cannot_sync_folders_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFS and some FUSE file systems answer EINVAL."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "text"
