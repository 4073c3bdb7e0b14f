"""Training samples beside PaddleSeg 2.7 with equal draws; their way to the trainer; how the loader scales."""

# ruff: noqa: E402
from __future__ import annotations

import dataclasses
import hashlib
import random
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "parity" / "transforms")]

from frames import find_frames
from rows import Bench, Pair, Row, timed

from stdc.data import transforms
from stdc.data.dataset import TrainDataset, read_image, read_label
from stdc.data.entry import Entry
from stdc.data.frame_cache import FrameCache
from stdc.recipe import Augmentation, resolve
from stdc.training.loader import batches

#: Values of the published recipe: height and width of a crop, images per device and step.
CROP, BATCH = (512, 1024), 12


def _entries(bench: Bench) -> List[Entry]:
    return [dataclasses.replace(entry, **_digests(entry)) for entry in find_frames(bench.frames)]


def _digests(entry: Entry) -> Dict[str, str]:
    files = {"image_sha256": entry.image, "label_sha256": entry.label}
    return {key: hashlib.sha256(Path(str(path)).read_bytes()).hexdigest() for key, path in files.items()}


def _augmentation() -> Augmentation:
    train = {"preset": "paddleseg", "iterations": 1, "global_batch": 1, "crop_height": CROP[0], "crop_width": CROP[1]}
    return resolve(train).augmentation


# Samples: the same frame, scale, corner, flip and colors on both sides.


def samples(bench: Bench) -> List[Row]:
    entries = _entries(bench)
    augmentation = _augmentation()
    cache = FrameCache(bench.scratch / "frames", len(entries))
    cached = TrainDataset(entries, augmentation, 0, cache)
    for index in range(len(entries)):
        cached[index]
    rounds = bench.rounds * (4 if bench.quick else 20)
    peer: Callable[[Entry, int], Any] = _Peer() if bench.peer else lambda entry, seed: None
    ours: Dict[str, List[float]] = {"none": [], "cache": []}
    theirs: List[float] = []
    different = 0
    for number in range(rounds + 1):
        index = number % len(entries)
        entry = entries[index]
        started = time.process_time()
        made = peer(entry, number)
        peer_s = time.process_time() - started
        draws = made[2] if made else transforms.draw(augmentation, 1024, 2048, np.random.RandomState(number))
        for kind in ours:
            started = time.process_time()
            crop, label = _ours(entry, index, draws, augmentation, cache if kind == "cache" else None)
            seconds = time.process_time() - started
            if number:
                ours[kind].append(1000 * seconds)
            if made:
                image = transforms.normalize(crop.transpose(1, 2, 0), augmentation.mean, augmentation.std)
                different += not (np.array_equal(image, made[0]) and np.array_equal(label, made[1]))
        if number:
            theirs.append(1000 * peer_s)
    equal = f"bit for bit, {different} of {2 * (rounds + 1)} differ" if bench.peer else ""
    unit = "ms of CPU"
    decoding = 1000 * float(np.median(timed(lambda: (read_image(entries[0].image), read_label(entries[0].label)), 9)))
    made_rows = []
    for kind, work, must, aim, limit, note in (
        (
            "none",
            "training sample 1024x512 of a 2048x1024 frame, no cache",
            2.5,
            3.5,
            decoding,
            "limit: decoding alone",
        ),
        ("cache", "the same with hardware.frame_cache", 5.0, 10.0, None, "frame in the page cache of the system"),
    ):
        if bench.peer:
            pair = Pair(tuple(ours[kind]), tuple(theirs))
            made_rows.append(Row(work, unit, pair, limit=limit, must=must, aim=aim, equal=equal, note=note))
        else:
            made_rows.append(Row(work, unit, ours=float(np.median(ours[kind])), limit=limit, note=note))
    return made_rows


def _ours(
    entry: Entry, index: int, draws: transforms.Draws, augmentation: Augmentation, cache: Any
) -> Tuple[np.ndarray, np.ndarray]:
    """What `TrainDataset` does for given draws."""
    planes = cache.read(index, entry) if cache is not None else None
    if planes is None:
        planes = (
            read_image(entry.image, entry.image_sha256),
            read_label(entry.label, (1024, 2048), entry.label_sha256),
        )
    crop, label = transforms.apply(*planes, draws, augmentation)
    return transforms.planes(crop), label


class _Peer:
    """PaddleSeg's chain, which tells what it drew."""

    def __init__(self) -> None:
        from make_arrays import Recorder

        self.recorder = Recorder()

    def __call__(self, entry: Entry, seed: int) -> Tuple[np.ndarray, np.ndarray, transforms.Draws]:
        random.seed(seed)
        np.random.seed(seed)
        image, label, draws = self.recorder.run_on(str(entry.image), str(entry.label), CROP, True)
        draws["distort"] = tuple((kind, amount) for kind, amount in draws["distort"])
        return image, label, transforms.Draws(**draws)


# Transport.


class Constant:
    """Crops that cost nothing to make."""

    def __init__(self) -> None:
        self.image, self.label = np.zeros((3, *CROP), np.uint8), np.zeros(CROP, np.uint8)

    def __getitem__(self, key: int) -> Tuple[np.ndarray, np.ndarray]:
        self.image[:, 0, 0] = key % 256
        return self.image, self.label


def transport(bench: Bench) -> List[Row]:
    loaded = batches(Constant(), ([BATCH * step + place for place in range(BATCH)] for step in range(100_000)), 1)
    wall, cpu = [], []
    for number in range(12 + 10 * bench.rounds):
        started = time.perf_counter(), time.process_time()
        batch = next(loaded)
        # To be read: the first page of each image.
        assert batch.images[:, 0, 0, 0].tolist() == [(BATCH * number + place) % 256 for place in range(BATCH)]
        if number >= 12:
            wall.append(1000 * (time.perf_counter() - started[0]))
            cpu.append(1000 * (time.process_time() - started[1]))
    loaded.close()
    source, target = np.zeros((BATCH, 4, *CROP), np.uint8), np.zeros((BATCH, 4, *CROP), np.uint8)
    copy_ms = 1000 * float(np.median(timed(lambda: np.copyto(target, source), 9)))
    work = f"transport of {BATCH} crops of 1024x512 from one worker to the trainer"
    return [
        Row(
            work, "ms of wall time", ours=float(np.median(wall)), limit=copy_ms, must=15, aim=10, note="limit: one copy"
        ),
        Row(
            "the same",
            "ms of the trainer's CPU",
            ours=float(np.median(cpu)),
            must=5,
            aim=2.5,
            note="a view is handed over",
        ),
    ]


# Scaling.


def scaling(bench: Bench) -> Iterator[Row]:
    """CPU of the trainer and wall time per sample for some numbers of workers; two ranks are two loaders at a time."""
    entries = _entries(bench)
    for ranks, workers in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2)):
        if bench.quick and (ranks, workers) not in ((1, 1), (1, 2)):
            continue
        dataset = TrainDataset(entries, _augmentation(), 0)
        loaders = [
            batches(dataset, ([4 * step + place for place in range(4)] for step in range(10_000)), workers)
            for _ in range(ranks)
        ]
        for loader in loaders:
            for _ in range(4):
                next(loader)
        count = 4 if bench.quick else 30
        started = time.perf_counter(), time.process_time()
        for _ in range(count):
            for loader in loaders:
                next(loader)
        wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
        for loader in loaders:
            loader.close()
        count_of_all = 4 * count * ranks
        note = f"{count_of_all / wall_s:.1f} samples/s in all; trainers use {cpu_s / wall_s:.1%} of a core"
        work = f"loader, {ranks} rank(s) x {workers} worker(s), no cache"
        yield Row(work, "ms of wall time per sample", ours=1000 * wall_s / count_of_all, note=note)


PARTS = (samples, transport, scaling)
