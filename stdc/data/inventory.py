"""The check of a dataset folder: is all of it there and sound, and what exactly is it."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from stdc.data.cityscapes import CITIES, IMAGE_SIZE
from stdc.data.frame_checks import FrameReport, check_frame
from stdc.data.layout import (
    IMAGE,
    IMAGE_TREE,
    INSTANCE_IDS,
    LABEL_IDS,
    POLYGONS,
    READ_KINDS,
    SPLITS,
    SUFFIXES,
    TRUTH_TREE,
    Frame,
    Layout,
    frame_path,
    read_layout,
    shown,
)
from stdc.data.manifest import FORMAT
from stdc.errors import InputError, InputErrors
from stdc.machine.pool import run_parallel
from stdc.progress import Progress

EXPECTATIONS = ("any", "cityscapes")
#: Splits that training and validation cannot do without.
NEEDED_SPLITS = ("train", "val")


def check_dataset(
    root: Path,
    expect: str,
    processes: int = 1,
    warn: Callable[[str], None] = lambda line: None,
    progress: Optional[Callable[[int], Progress]] = None,
) -> Dict[str, Any]:
    """Check a dataset folder to the last byte and describe it.

    Args:
        expect: `cityscapes` demands the full official set: cities, counts, sizes, all files; `any` its layout only.
        processes: how many share the work; the result does not depend on it.
        warn: gets what is odd but allowed, one line each.
        progress: makes the progress line from the number of frames; None shows none.

    Returns:
        The manifest (format: ARCHITECTURE.md). `label` is null for frames of a test split without ground truth.

    Raises:
        InputErrors: lists every problem found.
        InputError: there is nothing to check.
    """
    if expect not in EXPECTATIONS:
        raise InputError(f"expect: {expect!r}, expected {' or '.join(EXPECTATIONS)}")
    layout = read_layout(root)
    frames = list(layout.frames.values())
    source = _label_source(frames)
    problems = list(layout.problems)
    problems += _empty_splits(layout)
    problems += _unpaired(layout, source)
    if expect == "cityscapes":
        problems += _unlike_official(frames)
    line = progress(len(frames)) if progress else None
    reports = run_parallel(
        functools.partial(check_frame, root, image_size=IMAGE_SIZE if expect == "cityscapes" else None),
        frames,
        processes,
        name=lambda frame: shown(frame.files.get(IMAGE, frame.name)),
        done=line.step if line else lambda: None,
    )
    if line:
        line.finish()
    problems += [problem for report in reports for problem in report.problems]
    if problems:
        raise InputErrors(f"dataset {root}: problems found: {len(problems)}, frames looked at: {len(frames)}", problems)
    for odd in _shared_between_splits(frames, reports):
        warn(odd)
    return _manifest(frames, reports, source, expect)


def _label_source(frames: List[Frame]) -> str:
    """`labelIds` where train or val has any: the benchmark scores these, and polygons drawn anew differ at edges."""
    needed = [frame for frame in frames if frame.split in NEEDED_SPLITS]
    return LABEL_IDS if any(LABEL_IDS in frame.files for frame in needed) else POLYGONS


def _empty_splits(layout: Layout) -> List[str]:
    problems = []
    members = [frame for frame in layout.frames.values() if frame.split == "test"]
    if IMAGE_TREE in layout.folders and members and not any(IMAGE in frame.files for frame in members):
        folders = layout.folders
        problems.append(
            f"test: {folders[TRUTH_TREE]}/test has frames, {folders[IMAGE_TREE]}/test has none; add or remove"
        )
    for split in NEEDED_SPLITS:
        members = [frame for frame in layout.frames.values() if frame.split == split]
        for tree, kinds in ((IMAGE_TREE, (IMAGE,)), (TRUTH_TREE, (LABEL_IDS, POLYGONS))):
            # A missing tree has been reported as such.
            if tree in layout.folders and not any(kind in frame.files for frame in members for kind in kinds):
                problems.append(
                    f"{split}: empty split; no *{SUFFIXES[kinds[0]]} under {layout.folders[tree]}/{split}/<city>/"
                )
    return problems


def _unpaired(layout: Layout, source: str) -> List[str]:
    """Images without a label and labels without an image, by frame name.

    A tree or a split that is missing altogether is reported elsewhere.
    """
    problems = []
    frames = layout.frames.values()
    for split in SPLITS:
        members = [frame for frame in frames if frame.split == split]
        count = {kind: sum(kind in frame.files for frame in members) for kind in READ_KINDS}
        labeled = count[LABEL_IDS] + count[POLYGONS] > 0
        for frame in members:
            image = frame.files.get(IMAGE)
            if image is None:
                if count[IMAGE] > 0:
                    one = next(frame.files[kind] for kind in (LABEL_IDS, POLYGONS, INSTANCE_IDS) if kind in frame.files)
                    expected = _expected_path(layout, frame, IMAGE)
                    problems.append(f"{shown(one)}: label without image; expected {expected}")
                continue
            if labeled and source not in frame.files:
                other = POLYGONS if source == LABEL_IDS else LABEL_IDS
                if other not in frame.files:
                    what = "image without label"
                else:
                    what = f"only {other}, while other frames have {source}: one kind must cover all"
                problems.append(f"{shown(image)}: {what}; expected {_expected_path(layout, frame, source)}")
            if count[INSTANCE_IDS] > 0 and INSTANCE_IDS not in frame.files:
                expected = _expected_path(layout, frame, INSTANCE_IDS)
                problems.append(
                    f"{shown(image)}: no instanceIds, while other {split} frames have them; expected {expected}"
                )
    return problems


def _expected_path(layout: Layout, frame: Frame, kind: str) -> str:
    tree = IMAGE_TREE if kind == IMAGE else TRUTH_TREE
    return shown(frame_path(kind, frame.split, frame.city, frame.name, layout.folders.get(tree, tree)))


def _unlike_official(frames: List[Frame]) -> List[str]:
    """Cities whose number of files differs from the official packages, after a line for the split."""
    problems = []
    for split, cities in CITIES.items():
        found: Dict[str, Counter[str]] = {kind: Counter() for kind in READ_KINDS}
        for frame in frames:
            if frame.split == split:
                for kind in frame.files:
                    found[kind][frame.city] += 1
        wrong = []
        for city in sorted({*cities, *(city for counts in found.values() for city in counts)}):
            expected = cities.get(city, 0)
            if any(counts[city] != expected for counts in found.values()):
                listed = ", ".join(f"{counts[city]} {kind}" for kind, counts in found.items())
                wrong.append(f"{split}/{shown(city)}: {listed}; expected {expected} of each")
        if wrong:
            total = f"{sum(found[IMAGE].values())} images, expected {sum(cities.values())}"
            hint = "unpack the two zips again, or set data.expect: any where a part is meant"
            problems += [f"{split}: {total} in {len(cities)} cities; {hint}", *wrong]
    return problems


def _shared_between_splits(frames: List[Frame], reports: List[FrameReport]) -> List[str]:
    """Images that occur in two splits: validation on them would reward memory."""
    first: Dict[str, Frame] = {}
    shared = []
    for frame, report in zip(frames, reports):
        other = first.setdefault(report.files[IMAGE]["sha256"], frame)
        if other.split != frame.split:
            shared.append(
                f"{shown(frame.files[IMAGE])}: the same picture as {shown(other.files[IMAGE])};"
                f" figures of {frame.split} and {other.split} are not independent"
            )
    return shared


def _manifest(frames: List[Frame], reports: List[FrameReport], source: str, expect: str) -> Dict[str, Any]:
    splits: Dict[str, Any] = {split: {"cities": {}, "frames": 0} for split in SPLITS}
    entries: List[Dict[str, Any]] = []
    for frame, report in zip(frames, reports):
        assert report.size is not None
        split = splits[frame.split]
        split["frames"] += 1
        split["cities"][frame.city] = split["cities"].get(frame.city, 0) + 1
        entries.append(
            {
                "frame": frame.name,
                "city": frame.city,
                "split": frame.split,
                "size": list(report.size),
                "image": report.files[IMAGE],
                "label": report.files.get(source),
                "instance": report.files.get(INSTANCE_IDS),
            }
        )
    return {
        "format": FORMAT,
        "expected": expect,
        "label_source": source,
        "splits": splits,
        "sizes": sorted({tuple(entry["size"]) for entry in entries}),
        "frames": entries,
    }
