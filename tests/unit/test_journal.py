"""A check that was killed goes on, and trusts nothing that may have changed."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest
from other_things import OTHER_THINGS, put
from PIL import Image
from programs import assert_refused, run_program

from stdc.data import inventory
from stdc.data import journal as journal_module
from stdc.data.inventory import check_dataset
from stdc.errors import InputErrors

IMAGE = "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"


@pytest.fixture
def counted(monkeypatch):
    """Names of the frames that are read."""
    read = []
    check = inventory.check_frame

    def counting(root, checks, frame):
        read.append(frame.name)
        return check(root, checks, frame)

    monkeypatch.setattr(inventory, "check_frame", counting)
    return read


@pytest.fixture
def settled(tiny_dataset):
    """A dataset whose files have not just been written."""
    time.sleep(0.15)
    return tiny_dataset


@pytest.fixture
def stopped(settled, tmp_path, counted, monkeypatch):
    """The journal of a check that ended after seven frames."""
    journal = tmp_path / "manifest.json.journal"

    class Killed(BaseException):
        pass

    class Line:
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps == 7:
                raise Killed

        def finish(self):
            pass

    with pytest.raises(Killed):
        check_dataset(settled, "any", journal=journal, progress=lambda total: Line())
    assert len(counted) == 7
    counted.clear()
    return journal


def test_check_goes_on_where_it_was_and_finds_the_same(settled, stopped, counted):
    lines = []
    manifest = check_dataset(settled, "any", journal=stopped, log=lines.append)
    assert len(counted) == 5
    assert "7 of 12 frames were found sound before and have not changed since: going on" in lines
    assert manifest == check_dataset(settled, "any")


def change_content(path):
    """Another sound picture, with size and time of the old one: only the kernel knows."""
    status = path.stat()
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path):
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


@pytest.mark.parametrize("change", [change_content, replace, lambda path: path.touch()])
def test_changed_file_is_read_again(settled, stopped, counted, change):
    # Sorted by split and name, so it is one of the seven.
    path = settled / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png"
    change(path)
    manifest = check_dataset(settled, "any", journal=stopped)
    assert len(counted) == 6
    assert "berlin_000000_000019" in counted
    assert manifest == check_dataset(settled, "any")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", sorted(set(OTHER_THINGS) - {"folder"}))
def test_something_else_in_the_place_of_a_journal_is_no_journal(settled, stopped, counted, kind):
    put(kind, stopped)
    assert check_dataset(settled, "any", journal=stopped) == check_dataset(settled, "any")


def test_damaged_journal_costs_only_its_damaged_lines(settled, stopped, counted):
    lines = stopped.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"sha256":"', b'"sha256":"0', 1)
    stopped.write_bytes(b"".join(lines[:5]) + lines[5][:40] + b"\n\0\0\0\xff" + b"[1, 2]\n")
    manifest = check_dataset(settled, "any", journal=stopped)
    assert len(counted) == 12 - 4
    assert manifest == check_dataset(settled, "any")


@pytest.mark.parametrize("change", ["code", "expect"])
def test_journal_of_another_check_is_not_trusted(settled, stopped, counted, monkeypatch, change):
    if change == "code":
        monkeypatch.setattr(inventory, "_code", lambda: "edited")
        check_dataset(settled, "any", journal=stopped)
    else:
        with pytest.raises(InputErrors):
            check_dataset(settled, "cityscapes", journal=stopped)
    assert len(counted) == 12


def test_frame_with_a_problem_is_read_again_when_it_is_repaired(settled, tmp_path, counted):
    good = (settled / IMAGE).read_bytes()
    (settled / IMAGE).write_bytes(good[:-20])
    time.sleep(0.15)
    journal = tmp_path / "journal"
    with pytest.raises(InputErrors):
        check_dataset(settled, "any", journal=journal)
    counted.clear()
    (settled / IMAGE).write_bytes(good)
    check_dataset(settled, "any", journal=journal)
    assert counted == ["aachen_000000_000019"]


def test_file_that_was_written_just_now_is_not_noted(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_UNSETTLED_S", 60)
    journal = tmp_path / "journal"
    check_dataset(tiny_dataset, "any", journal=journal)
    assert not journal.exists()


def test_program_keeps_the_journal_until_the_manifest_is_written(settled, tmp_path):
    good = (settled / IMAGE).read_bytes()
    (settled / IMAGE).write_bytes(good[:-20])
    output = tmp_path / "out" / "manifest.json"
    journal = output.with_name("manifest.json.journal")
    assert_refused(run_program("check_dataset", "--dataset", settled, "--output", output), "cut off")
    assert len(journal.read_text().splitlines()) == 11
    (settled / IMAGE).write_bytes(good)
    result = run_program("check_dataset", "--dataset", settled, "--output", output)
    assert result.returncode == 0, result.stderr
    assert "11 of 12 frames were found sound before" in result.stderr
    assert [path.name for path in output.parent.iterdir()] == ["manifest.json"]
