"""The check of a dataset folder: is all of it there and sound, and what exactly is it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import cv2
import numpy as np

from stdc.data import numbering
from stdc.data.cityscapes import CITIES, IMAGE_SIZE
from stdc.data.frame_checks import Checks, FrameReport, check_frame
from stdc.data.journal import Journal
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
)
from stdc.data.manifest import FORMAT
from stdc.errors import InputError, InputErrors, shown
from stdc.files import sha256_text
from stdc.machine.pool import run_parallel
from stdc.progress import Log, Progress

EXPECTATIONS = ("any", "cityscapes")
#: Splits that training and validation cannot do without.
NEEDED_SPLITS = ("train", "val")
_LEFT_OUT_SHOWN = 20
#: Suffix of the journal that lies beside the manifest until the check has ended.
JOURNAL_SUFFIX = ".journal"


def check_dataset(
    root: Path,
    expect: str,
    processes: int = 1,
    *,
    journal: Optional[Path] = None,
    log: Log = lambda line: None,
    progress: Optional[Callable[[int], Progress]] = None,
) -> Dict[str, Any]:
    """Check a dataset folder to the last byte and describe it.

    Args:
        expect: `cityscapes` demands the full official set: cities, counts, sizes, all files; `any` its layout only.
        processes: how many share the work; the result does not depend on it.
        journal: file that remembers what was checked, so that a check that was killed goes on. The caller removes it
            once the manifest is written. None remembers nothing.
        log: gets what was left out, what is odd but allowed, and the shares of label ids, one line each.
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
    checks = Checks(_label_source(frames), expect == "cityscapes", IMAGE_SIZE)
    problems = [*layout.problems, *_empty_splits(layout), *_unpaired(layout, checks.source)]
    if checks.official:
        problems += _unlike_official(frames)
    book = Journal(journal, root, checks, _code()) if journal else None
    try:
        reports = _check_frames(root, checks, frames, processes=processes, journal=book, log=log, progress=progress)
        problems += [problem for report in reports for problem in report.problems]
        problems += _unlearnable(frames, reports, checks.source, log)
        for line in _left_out(layout, reports):
            log(line)
        if problems:
            raise InputErrors(
                f"dataset {shown(root)}: problems found: {len(problems)}, frames looked at: {len(frames)}", problems
            )
        for odd in _shared_between_splits(frames, reports):
            log(f"warning: {odd}")
    finally:
        if book:
            book.close()
    return _manifest(frames, reports, checks.source, expect)


def _check_frames(
    root: Path,
    checks: Checks,
    frames: List[Frame],
    *,
    processes: int,
    journal: Optional[Journal],
    log: Log,
    progress: Optional[Callable[[int], Progress]],
) -> List[FrameReport]:
    """Reports on all frames, in their order; those in the journal are not read again."""
    known = journal.known(frames) if journal else {}
    if known:
        log(f"{len(known)} of {len(frames)} frames were found sound before and have not changed since: going on")
    rest = [frame for frame in frames if (frame.split, frame.name) not in known]
    line = progress(len(rest)) if progress else None

    def check(frame: Frame) -> Tuple[Optional[str], FrameReport]:
        key = journal.key(frame) if journal else None
        return key, check_frame(root, checks, frame)

    def done(index: int, result: Tuple[Optional[str], FrameReport]) -> None:
        if journal:
            journal.add(result[0], rest[index], result[1])
        if line:
            line.step()

    results = run_parallel(
        check, rest, processes, name=lambda frame: shown(frame.files.get(IMAGE, frame.name)), done=done
    )
    if line:
        line.finish()
    found = {(frame.split, frame.name): report for frame, (_, report) in zip(rest, results)}
    return [known.get((frame.split, frame.name)) or found[frame.split, frame.name] for frame in frames]


def _code() -> str:
    """What decides how a frame is checked: this package's code and the libraries that read the files."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    return sha256_text("\0".join([*texts, np.__version__, cv2.__version__]))


def _unlearnable(frames: List[Frame], reports: List[FrameReport], source: str, log: Log) -> List[str]:
    """Splits of which a network would learn nothing, or something else than their labels mean."""
    problems = []
    for split in NEEDED_SPLITS:
        members = [report for frame, report in zip(frames, reports) if frame.split == split]
        if not members or any(report.problems or source not in report.files for report in members):
            # The numbering is judged only when every file could be read: the ids of some of them would say little.
            continue
        if source == POLYGONS:
            if not any(report.trained_objects for report in members):
                if split == "train":
                    problems.append(
                        "train: no object of a trained class in any polygons file; nothing could be learned"
                    )
                else:
                    log(f"warning: {split}: no object of a trained class; there is nothing to validate on")
            continue
        counts: Counter[int] = Counter()
        for report in members:
            counts.update(report.label_ids)
        ids = numbering.SplitIds(split, counts)
        log(numbering.describe(ids))
        problem = numbering.problem(ids)
        if problem:
            problems.append(problem)
        elif ids.void == ids.total:
            log(f"warning: {split}: no pixel of a trained class; there is nothing to validate on")
        elif ids.void > ids.total / 2:
            log(f"warning: {split}: more than half of the pixels are void; are these the label ids of Cityscapes?")
    return problems


def _left_out(layout: Layout, reports: List[FrameReport]) -> List[str]:
    """What lies in the folder and is not used, one line each; many of one kind are counted."""
    lines = [*layout.left_out, *(line for report in reports for line in report.left_out)]
    listed = [f"left out: {line}" for line in lines[:_LEFT_OUT_SHOWN]]
    if len(lines) > _LEFT_OUT_SHOWN:
        listed.append(f"left out: {len(lines) - _LEFT_OUT_SHOWN} more")
    return listed


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
