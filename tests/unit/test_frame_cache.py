"""The cache of decoded frames changes no sample, whatever happens to its files."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
from other_things import OTHER_THINGS
from PIL import Image

from stdc.data import frame_cache
from stdc.data.dataset import TrainDataset
from stdc.data.entry import Entry
from stdc.data.frame_cache import FrameCache, Plane, frame_bytes, open_frame_cache
from stdc.recipe import resolve

HEIGHT, WIDTH = 130, 515


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def entries(tmp_path: Path) -> List[Entry]:
    generator = np.random.RandomState(0)
    made = []
    for number in range(3):
        image, label = tmp_path / f"{number}.png", tmp_path / f"{number}_ids.png"
        Image.fromarray(generator.randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)).save(image)
        Image.fromarray(generator.randint(0, 19, (HEIGHT, WIDTH)).astype(np.uint8)).save(label)
        made.append(Entry(f"aachen_{number:06d}_000019", image, label, digest(image), digest(label)))
    return made


def crops(entries: List[Entry], cache: Any = None, preset: str = "paddleseg", seed: int = 7) -> TrainDataset:
    train = {"preset": preset, "iterations": 2000, "global_batch": 1, "crop_height": 64, "crop_width": 128}
    return TrainDataset(entries, resolve(train).augmentation, seed, cache)


def samples(dataset: TrainDataset) -> List[bytes]:
    return [part.tobytes() for key in range(9) for part in dataset[key]]


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path / "cache" / "key", 3)


@pytest.mark.parametrize("preset", ["paddleseg", "authors"])
def test_samples_are_the_same_with_and_without(entries: List[Entry], cache: FrameCache, preset: str) -> None:
    expected = samples(crops(entries, None, preset))
    assert samples(crops(entries, cache, preset)) == expected
    for entry in entries:
        entry.image.unlink()
    assert samples(crops(entries, cache, preset)) == expected, "from the cache alone"


def test_a_window_reads_only_the_blocks_that_it_touches(
    entries: List[Entry], cache: FrameCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops(entries, cache)[0]
    reads: List[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: reads.append(arguments[1]) or pread(*arguments))
    planes = cache.read(0, entries[0])
    assert planes is not None and isinstance(planes[0], Plane)
    image, label = np.asarray(Image.open(entries[0].image)), np.asarray(Image.open(str(entries[0].label)))
    # Rows 60 to 69 lie in two rows of blocks, columns 250 to 259 in two columns of them.
    assert np.array_equal(planes[0][60:70, 250:260], image[60:70, 250:260]) and len(reads) == 4
    assert np.array_equal(planes[1][60:70, 250:260], label[60:70, 250:260]) and len(reads) == 4
    assert np.array_equal(np.asarray(planes[0]), image) and np.array_equal(np.asarray(planes[1]), label)
    assert len(reads) == 9


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "head", "gone", "folder", "pipe", "device", "loop"])
def test_damaged_frame_is_made_anew(entries: List[Entry], cache: FrameCache, damage: str) -> None:
    expected = samples(crops(entries, cache))
    (path,) = cache.folder.glob(f"{entries[1].frame}*")
    content = bytearray(path.read_bytes())
    sound = bytes(content)
    if damage in ("flip", "head"):
        content[len(content) // 2 if damage == "flip" else 90] ^= 1
    path.unlink()
    if damage in OTHER_THINGS:
        OTHER_THINGS[damage](path)
    elif damage != "gone":
        path.write_bytes(content[: {"cut": len(content) - 1, "empty": 0}.get(damage, len(content))])
    assert samples(crops(entries, cache)) == expected
    if damage != "folder":
        assert path.read_bytes() == sound


def test_frame_of_other_files_is_not_taken(entries: List[Entry], cache: FrameCache) -> None:
    crops(entries, cache)[0]
    assert cache.read(0, entries[0]) is not None
    for key in ("image_sha256", "label_sha256"):
        assert cache.read(0, dataclasses.replace(entries[0], **{key: "0" * 64})) is None


def test_only_the_first_frames_are_kept_and_each_takes_what_is_said(entries: List[Entry], tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache" / "key", 2)
    samples(crops(entries, cache))
    sizes = [path.stat().st_size for path in cache.folder.iterdir()]
    assert sizes == [frame_bytes(HEIGHT, WIDTH)] * 2


def test_limit_counts_frames_of_the_largest_size(tmp_path: Path) -> None:
    size = frame_bytes(1024, 2048)
    assert 4 * 1024 * 2048 <= size <= 4 * 1024 * 2048 + 4096
    sizes = [(512, 1024), (1024, 2048)]
    cache = open_frame_cache(tmp_path, "ab" * 32, sizes, 10 * size / 1e9)
    assert (cache.folder, cache.limit) == (tmp_path / "abababababababab", 10)
    assert open_frame_cache(tmp_path, "ab" * 32, sizes, (10 * size - 1) / 1e9).limit == 9


def test_full_disk_ends_the_caching_and_not_the_training(
    entries: List[Entry], cache: FrameCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    expected = samples(crops(entries))
    # (`Path` of Python 3.8 has its own name for `os.replace`.)
    monkeypatch.setattr(Path, "replace", full)
    assert samples(crops(entries, cache)) == expected
    assert cache.limit == 0 and list(cache.folder.iterdir()) == []


def test_writer_killed_in_the_middle_of_a_frame_leaves_none(entries: List[Entry], cache: FrameCache) -> None:
    expected = samples(crops(entries))
    context = multiprocessing.get_context("fork")
    half, sent = context.Pipe(duplex=False)

    def write_half(*arguments: Any) -> Iterator[bytes]:
        parts = list(encode(*arguments))
        yield from parts[: len(parts) // 2]
        sent.send("half")
        time.sleep(60)

    encode = frame_cache._encode
    frame_cache._encode = write_half  # for the child alone, which is forked with it
    try:
        child = context.Process(target=samples, args=(crops(entries, cache),), daemon=True)
        child.start()
    finally:
        frame_cache._encode = encode
    assert half.poll(20)
    child.kill()
    child.join()
    assert [path.name[:5] for path in cache.folder.iterdir()] == [".tmp-"], "half a frame has no frame's name"
    assert samples(crops(entries, cache)) == expected
    assert len([path for path in cache.folder.iterdir() if path.suffix == ".frame"]) == 3


def test_two_ranks_of_two_seeds_build_one_cache_at_once(entries: List[Entry], cache: FrameCache) -> None:
    expected = {seed: samples(crops(entries, seed=seed)) for seed in (7, 8)}
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(4), context.Queue()

    def build(seed: int) -> None:
        dataset = crops(entries, cache, seed=seed)
        gate.wait(20)
        answers.put((seed, samples(dataset)))

    children = [context.Process(target=build, args=(seed,), daemon=True) for seed in (7, 8, 7, 8)]
    for child in children:
        child.start()
    for _ in children:
        seed, found = answers.get(timeout=20)
        assert found == expected[seed]
    for child in children:
        child.join(20)
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted(f"{entry.frame}.frame" for entry in entries)


def test_tidying_removes_leftovers_and_other_keys_and_nothing_else(entries: List[Entry], cache: FrameCache) -> None:
    samples(crops(entries, cache))
    kept = sorted(cache.folder.iterdir())
    for name, age_s in ((".tmp-killed", 4000.0), (".tmp-busy", 0.0)):
        (cache.folder / name).write_bytes(b"half")
        os.utime(cache.folder / name, (time.time() - age_s,) * 2)
    kept = [cache.folder / ".tmp-busy", *kept]
    other = cache.folder.parent / "older"
    other.mkdir()
    (other / "x.frame").write_bytes(b"")
    foreign = cache.folder.parent / "holidays" / "beach.png"
    foreign.parent.mkdir()
    foreign.write_bytes(b"not ours")
    cache.tidy()
    assert sorted(cache.folder.iterdir()) == kept and not other.exists() and foreign.exists()
