from __future__ import annotations

import hashlib
import json
import shutil
import stat
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from programs import assert_refused, run_program

from stdc.data import archives, cityscapes
from stdc.data.archives import Limits, extract_archives
from stdc.data.cityscapes import Archive
from stdc.data.inventory import check_dataset
from stdc.errors import InputError

GT, IMAGES = "gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"
TREES = {GT: "gtFine", IMAGES: "leftImg8bit"}


class Case:
    """A folder with two zips, the table that describes them, and the places of the outputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "downloads"
        self.folder.mkdir()
        self.output = folder / "work" / "dataset"
        self.index = folder / "work" / "dataset.json"

    def expected(self):
        return {name: self.describe(name, tree) for name, tree in TREES.items()}

    def describe(self, name, tree):
        data = (self.folder / name).read_bytes()
        return Archive(len(data), hashlib.sha256(data).hexdigest(), tree)

    def extract(self, **options):
        if "expected" not in options:
            options["expected"] = self.expected()
        return extract_archives(self.folder, self.output, self.index, **options)

    def left(self):
        """Everything below the folder of the outputs."""
        return sorted(self.output.parent.rglob("*")) if self.output.parent.exists() else []


@pytest.fixture
def case(tmp_path, tiny_dataset):
    made = Case(tmp_path)
    for name, tree in TREES.items():
        with zipfile.ZipFile(made.folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README", "not needed")
            archive.writestr("license.txt", "not needed")
            for path in sorted((tiny_dataset / tree).rglob("*")):
                archive.write(path, path.relative_to(tiny_dataset))
    return made


def add(case, entry, data=b"x", name=GT, compress_type=zipfile.ZIP_DEFLATED):
    if isinstance(entry, str):
        entry = zipfile.ZipInfo(entry)
    entry.compress_type = compress_type
    with zipfile.ZipFile(case.folder / name, "a") as archive:
        archive.writestr(entry, data)


def test_both_zips_become_a_sound_dataset(case, tiny_dataset):
    content = case.extract()
    manifest = check_dataset(case.output, "any")
    assert manifest == check_dataset(tiny_dataset, "any")
    files = [path for path in tiny_dataset.rglob("*") if path.is_file()]
    assert content["files"] == len(files)
    assert content["bytes"] == sum(path.stat().st_size for path in files)
    assert content["archives"][GT]["sha256"] == hashlib.sha256((case.folder / GT).read_bytes()).hexdigest()
    assert json.loads(case.index.read_text()) == content
    assert {path.name for path in case.output.iterdir()} == {"gtFine", "leftImg8bit", archives.MARKER}
    assert sorted(path.name for path in case.output.parent.iterdir()) == ["dataset", "dataset.json"]


def test_extracting_again_gives_the_same_bytes(case):
    case.extract()
    first = {path: path.read_bytes() for path in case.left() if path.is_file()}
    case.extract()
    assert {path: path.read_bytes() for path in case.left() if path.is_file()} == first


def test_modes_in_the_zip_are_not_taken_over(case):
    entry = zipfile.ZipInfo("gtFine/train/aachen/tool")
    entry.external_attr = (stat.S_IFREG | 0o6777) << 16
    add(case, entry)
    case.extract()
    assert not (case.output / entry.filename).stat().st_mode & 0o6111


def refused(case, *fragments, **options):
    before = sorted(case.folder.iterdir())
    with pytest.raises(InputError) as caught:
        case.extract(**options)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert case.left() == []
    assert sorted(case.folder.iterdir()) == before
    return str(caught.value)


def test_missing_zip_is_explained_with_the_way_to_get_it(case):
    expected = case.expected()
    (case.folder / GT).unlink()
    refused(case, f"{GT} not in it", "csDownload", "dataset: null", expected=expected)
    shutil.rmtree(case.folder)
    case.folder.mkdir()
    refused(case, f"{GT} and {IMAGES} not in it", expected=expected)


def test_wrong_sizes_are_found_before_anything_is_hashed(case):
    expected = case.expected()
    for name in TREES:
        with (case.folder / name).open("r+b") as handle:
            handle.truncate(1000)
    message = refused(case, f"1000 bytes, expected {expected[GT].size}: the download is incomplete", expected=expected)
    assert message.count("download it again") == 2


def test_wrong_digest_is_refused(case):
    expected = case.expected()
    data = bytearray((case.folder / IMAGES).read_bytes())
    data[len(data) // 2] ^= 1
    (case.folder / IMAGES).write_bytes(data)
    refused(case, IMAGES, f"expected {expected[IMAGES].sha256}", expected=expected)


def entry_of_kind(kind, name="gtFine/train/aachen/odd"):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o644) << 16
    return entry


def renamed(old, new):
    """A name that zipfile's writer would mend: put in after writing."""

    def apply(case):
        add(case, old)
        data = (case.folder / GT).read_bytes()
        assert data.count(old.encode()) == 2
        (case.folder / GT).write_bytes(data.replace(old.encode(), new))

    return apply


def encrypted(case):
    add(case, "gtFine/train/aachen/secret")
    data = bytearray((case.folder / GT).read_bytes())
    local = data.rindex(b"PK\x03\x04")
    central = data.rindex(b"PK\x01\x02")
    data[local + 6] |= 1
    data[central + 8] |= 1
    (case.folder / GT).write_bytes(data)


def overlapping(case):
    add(case, "gtFine/train/aachen/one", bytes(1000))
    add(case, "gtFine/train/aachen/two", bytes(1000))
    data = bytearray((case.folder / GT).read_bytes())
    centrals = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02"]
    data[centrals[-1] + 42 : centrals[-1] + 46] = data[centrals[-2] + 42 : centrals[-2] + 46]
    (case.folder / GT).write_bytes(data)


UNSAFE = {
    "parent": (lambda case: add(case, "gtFine/../../outside"), "unsafe path"),
    "absolute": (lambda case: add(case, "/tmp/outside"), "unsafe path"),
    "dot": (lambda case: add(case, "gtFine/./a"), "unsafe path"),
    "double slash": (lambda case: add(case, "gtFine//a"), "unsafe path"),
    "drive": (lambda case: add(case, "C:/outside"), "unsafe path"),
    "backslash": (renamed("gtFine/xxx", b"gtFine\\xxx"), "unsafe name"),
    "nul": (renamed("gtFine/train/a.b", b"gtFine/train/a\0b"), "unsafe name"),
    "no name": (lambda case: add(case, zipfile.ZipInfo("")), "unsafe path"),
    "line break": (lambda case: add(case, "gtFine/a\nb"), "gtFine/a\\nb: unsafe name"),
    "link": (lambda case: add(case, entry_of_kind(stat.S_IFLNK), b"/etc/passwd"), "gtFine/train/aachen/odd: link"),
    "link elsewhere in the zip": (lambda case: add(case, entry_of_kind(stat.S_IFLNK, "odd"), b"/etc"), "odd: link"),
    "device": (lambda case: add(case, entry_of_kind(stat.S_IFCHR)), "neither a file nor a folder"),
    "pipe": (lambda case: add(case, entry_of_kind(stat.S_IFIFO)), "neither a file nor a folder"),
    "file and folder": (lambda case: add(case, "gtFine/train/aachen"), "occurs twice"),
    "file used as folder": (lambda case: (add(case, "gtFine/a"), add(case, "gtFine/a/b")), "is a file and a folder"),
    "bomb": (lambda case: add(case, "gtFine/zeros", bytes(2_000_000)), "bytes unpack to 2000000"),
    "encrypted": (encrypted, "secret: encrypted"),
    "odd method": (lambda case: add(case, "gtFine/a", compress_type=zipfile.ZIP_BZIP2), "packed with method 12"),
    "overlapping": (overlapping, "two: overlaps another entry"),
}


@pytest.mark.parametrize(("spoil", "said"), UNSAFE.values(), ids=list(UNSAFE))
def test_unsafe_entry_condemns_the_archive(case, spoil, said):
    spoil(case)
    refused(case, f"{case.folder / GT}: not unpacked, ", said)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_name_that_occurs_twice_is_refused(case):
    add(case, "gtFine/a")
    add(case, "gtFine/a")
    refused(case, "gtFine/a: occurs twice")


def test_limits_of_count_and_size_hold(case):
    refused(case, "more than 10", limits=Limits(files=10))
    refused(case, "bytes, more than 1000", limits=Limits(bytes=1000))


def test_zip_without_the_wanted_folder_is_refused(case):
    shutil.copy(case.folder / IMAGES, case.folder / GT)
    refused(case, "no file below gtFine/")


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"hello" * 100])
def test_file_that_is_no_zip_is_refused(case, content):
    (case.folder / GT).write_bytes(content)
    refused(case, "not a sound zip")


def test_damaged_content_is_refused(case):
    path = case.folder / IMAGES
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda one: one.compress_size)
    data = bytearray(path.read_bytes())
    data[entry.header_offset + 200] ^= 0xFF
    path.write_bytes(data)
    refused(case, f"{entry.filename} is damaged")


@pytest.mark.parametrize("declared", [10, 2000])
def test_entry_that_lies_about_its_size_is_refused(case, declared):
    add(case, "gtFine/liar", bytes(range(256)) * 4)
    path = case.folder / GT
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, declared)
    path.write_bytes(data)
    refused(case, "gtFine/liar")


def test_full_disk_is_told_before_unpacking(case, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    refused(case, "0.0 GB free", "make room")


def test_failed_run_keeps_no_index_of_an_earlier_one(case):
    case.extract()
    expected = case.expected()
    expected[IMAGES] = expected[IMAGES]._replace(sha256="0" * 64)
    with pytest.raises(InputError):
        case.extract(expected=expected)
    assert not case.index.exists()
    assert sorted(path.name for path in case.output.parent.iterdir()) == ["dataset"]


def test_folder_of_someone_else_is_not_replaced(case):
    case.output.mkdir(parents=True)
    (case.output / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds files that extract_dataset did not write"):
        case.extract()
    assert (case.output / "thesis.txt").read_text() == "precious"


def test_nothing_is_written_into_the_folder_of_the_zips(case):
    case.output = case.folder / "dataset"
    with pytest.raises(InputError, match="only read"):
        case.extract()
    assert not case.output.exists()


def test_killed_run_leaves_nothing_that_looks_complete(case, tmp_path):
    # Many small files, and a progress line that stalls after some of them.
    table = {name: tuple(archive) for name, archive in case.expected().items()}
    places = [str(path) for path in (case.folder, case.output, case.index)]
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(archives.__file__).parents[2])!r})
from pathlib import Path
from stdc.data.archives import extract_archives
from stdc.data.cityscapes import Archive
class Stall:
    def __init__(self, what, total): self.unpack, self.count = "unpacked" in what, 0
    def step(self, count=1):
        self.count += 1
        if self.unpack and self.count == 20:
            Path({str(tmp_path / "stalled")!r}).touch(); time.sleep(60)
    def finish(self): pass
expected = {{name: Archive(*value) for name, value in {table!r}.items()}}
extract_archives(*(Path(name) for name in {places!r}), expected, progress=Stall)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        end = time.monotonic() + 20
        while not (tmp_path / "stalled").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not case.output.exists()
    assert not case.index.exists()
    case.extract()
    assert sorted(path.name for path in case.output.parent.iterdir()) == ["dataset", "dataset.json"]


def test_published_table_names_the_two_packages():
    assert set(cityscapes.ARCHIVES) == {GT, IMAGES}
    for archive in cityscapes.ARCHIVES.values():
        assert len(bytes.fromhex(archive.sha256)) == 32
    assert {split: sum(cities.values()) for split, cities in cityscapes.CITIES.items()} == {
        "train": 2975,
        "val": 500,
        "test": 1525,
    }
    assert [len(cities) for cities in cityscapes.CITIES.values()] == [18, 3, 6]


def test_program_refuses_zips_that_are_not_the_published_ones(case):
    result = run_program(
        *("extract_dataset", "--archives", case.folder, "--output", case.output, "--index", case.index)
    )
    assert_refused(result, "2 of 2 archives are wrong", "expected 252567705", "expected 11592327197")
    assert case.left() == []


def test_time_to_check_the_entries_grows_as_their_number_does(tmp_path):
    from stdc.data.archives import DEFAULT_LIMITS, _safe_entries

    def seconds(count):
        path = tmp_path / f"{count}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(count):
                archive.writestr(f"gtFine/train/aachen/aachen_{number:06d}_000019_gtFine_polygons.json", b"")
        started = time.process_time()
        with path.open("rb") as handle:
            assert len(_safe_entries(handle, path, "gtFine", DEFAULT_LIMITS)) == count
        return time.process_time() - started

    # All pairs of 3,000 files took 40 times as long as those of 500.
    assert seconds(3000) < 15 * seconds(500)
