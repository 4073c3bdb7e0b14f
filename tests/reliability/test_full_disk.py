"""A disk that fills up: a clear end, the last good state kept, nothing that looks complete. Needs root, for a tmpfs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import made_results
import pytest
from programs import run_program
from trials import TrainingTrial

MEGABYTE = 1 << 20


class SmallDisk:
    """A file system in memory of a few pages or megabytes."""

    def __init__(self, place: Path, size: int) -> None:
        self.place = place
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))

    def grow(self, size: int) -> None:
        self._mount("-o", f"remount,size={size}", str(self.place))

    @staticmethod
    def _mount(*arguments: str) -> None:
        result = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False, timeout=20)
        if result.returncode != 0:
            pytest.skip(f"FULL DISK NOT TESTED: cannot mount a tmpfs ({result.stderr.strip()})")


@pytest.fixture()
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    if os.geteuid() != 0:
        pytest.skip("FULL DISK NOT TESTED: mounting a tmpfs needs root")
    made = []

    def make(size: int) -> SmallDisk:
        made.append(SmallDisk(tmp_path / f"disk{len(made)}", size))
        return made[-1]

    yield make
    for disk in made:
        subprocess.run(["umount", "--lazy", str(disk.place)], check=False, timeout=20)


def test_full_disk_at_a_checkpoint_keeps_the_one_before_and_the_run_goes_on_later(
    tmp_path: Path, small_disk: Callable[[int], SmallDisk]
) -> None:
    trial = TrainingTrial(tmp_path / "trial", {"iterations": 6, "evaluate": False})
    place = trial.folder / "full"
    place.mkdir()
    # One checkpoint of this network takes 69 MB, and two are kept.
    disk = small_disk(110 * MEGABYTE)
    (place / "runs").symlink_to(disk.place, target_is_directory=True)
    family = trial.start("full")
    try:
        assert family.wait(90) == 1
        said = family.text()
        assert "no space left for the checkpoint of iteration 4" in said and "MB are needed" in said
        assert "Traceback" not in said and "earlier checkpoints are intact" in said
    finally:
        family.end()
    assert trial.saved("full") == 2
    left = [path.name for path in disk.place.rglob("*")]
    assert not [name for name in left if name.startswith(".tmp-")]
    assert not (place / "model.pdparams").exists() and not (place / "provenance.json").exists()
    disk.grow(600 * MEGABYTE)
    again = trial.start("full")
    try:
        assert again.wait(90) == 0, again.text()[-2000:]
        assert "resuming: checkpoint of iteration 2" in again.text()
    finally:
        again.end()
    (place / "best.pdparams").write_bytes(b"")
    expected = trial.start("never-full")
    try:
        assert expected.wait(90) == 0
    finally:
        expected.end()
    (trial.folder / "never-full" / "best.pdparams").write_bytes(b"")
    assert trial.results("full") == trial.results("never-full")


@pytest.mark.parametrize("kilobytes", [4, 40, 52])
def test_full_disk_at_the_outputs_of_a_program_leaves_nothing_that_looks_complete(
    tiny_dataset: Path, tmp_path: Path, small_disk: Callable[[int], SmallDisk], kilobytes: int
) -> None:
    disk = small_disk(kilobytes * 1024)
    output = disk.place / "manifest.json"
    result = run_program("check_dataset", "--dataset", tiny_dataset, "--output", output)
    if kilobytes < 40:
        assert result.returncode == 1 and "No space left on device" in result.stderr, result.stderr
        # The journal is what the next check goes on from; it does not look like a manifest.
        assert "Traceback" not in result.stderr and not output.exists()
        assert [path.name for path in disk.place.iterdir()] in ([], ["manifest.json.journal"])
        return
    assert result.returncode == 0
    labels, index = disk.place / "labels", disk.place / "labels.json"
    options = ["--dataset", tiny_dataset, "--manifest", output, "--output", labels, "--index", index]
    result = run_program("convert_labels", *options)
    assert result.returncode == 1 and "No space left on device" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and not index.exists()
    assert not [path for path in disk.place.rglob("*") if path.name.startswith(".tmp-")]
    disk.grow(10 * MEGABYTE)
    assert run_program("convert_labels", *options).returncode == 0
    assert index.exists() and len(list(labels.rglob("*.png"))) == 12


@pytest.mark.parametrize("pages", [1, 0.5])
def test_full_disk_at_the_report_leaves_no_verdict_and_no_half_page(
    tmp_path: Path, small_disk: Callable[[int], SmallDisk], pages: float
) -> None:
    frames = ["aachen_000000_000019"]
    made_results.write_seed(tmp_path / "results" / "seed0", 0, frames, (64, 128), True)
    config = made_results.report_config(report={"overlays": 0})
    for name, content in (("report.json", config), ("manifest.json", made_results.manifest(2, 0, frames))):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    made_results.write_list(tmp_path / "val.txt", frames)
    made_results.tie(tmp_path / "results", config, tmp_path / "manifest.json", {"val": tmp_path / "val.txt"})

    def report(out: Path) -> subprocess.CompletedProcess[str]:
        places = {"config": "report.json", "results": "results", "manifest": "manifest.json"}
        places.update({"dataset": "no", "labels": "no", "index": "no", "list": "val.txt"})
        words = [word for key, name in places.items() for word in (f"--{key}", str(tmp_path / name))]
        return run_program("report", *words, "--verdict", out / "verdict.json", "--report", out / "report.html")

    whole = tmp_path / "whole"
    assert report(whole).returncode == 0
    size = (whole / "report_metrics_only.html").stat().st_size
    # Room for the first of the two pages, or for half of it.
    disk = small_disk((int(size * pages) // 4096 + 2) * 4096)
    result = report(disk.place)
    assert result.returncode == 1 and "report" in result.stderr and "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    # The verdict is written last; what is there is whole.
    left = {path.name: path.read_bytes() for path in disk.place.iterdir()}
    assert set(left) <= {"report_metrics_only.html"} and (pages == 1) == bool(left)
    assert all(data == (whole / name).read_bytes() for name, data in left.items())
