"""Label conversion beside the peer's: PaddleSeg converts by cityscapesscripts' json2labelImg, file by file."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Iterator, List

from cityscapesscripts.preparation.json2labelImg import json2labelImg
from rows import Bench, Row, in_turns

from stdc.data.convert import convert_labels
from stdc.data.inventory import check_dataset
from stdc.data.layout import IMAGE, LABEL_IDS, POLYGONS, SUFFIXES
from stdc.files import write_json

#: Names under which each frame is converted, so that what a whole run costs is spread as over a real dataset.
_NAMES = 4


def from_polygons(bench: Bench) -> Iterator[Row]:
    """CPU time per image from polygons to train ids on the disk."""
    yield _row(bench, POLYGONS, 4.0, 6.0)


def from_label_ids(bench: Bench) -> Iterator[Row]:
    """The same from label ids; PaddleSeg has polygons only."""
    yield _row(bench, LABEL_IDS, 3.0, 5.0)


def _row(bench: Bench, source: str, must: float, aim: float) -> Row:
    scratch = bench.scratch / source
    root = linked_dataset(bench.frames, scratch / "dataset", [IMAGE, source], _NAMES)
    manifest = scratch / "manifest.json"
    write_json(manifest, check_dataset(root, "any"))
    annotations = sorted(bench.frames.glob(f"gtFine/*/*/*{SUFFIXES[POLYGONS]}"))
    frames = len(list(root.glob(f"gtFine/*/*/*{SUFFIXES[source]}")))
    # Into a new folder each time: on some file systems a file that replaces another waits for the disk.
    folders = iter(range(1_000_000))

    def ours() -> None:
        folder = scratch / f"ours{next(folders)}"
        convert_labels(root, manifest, folder, folder / "labels.json")

    def theirs() -> None:
        folder = scratch / f"theirs{next(folders)}"
        folder.mkdir()
        with redirect_stdout(io.StringIO()):
            for number in range(frames):
                path = annotations[number % len(annotations)]
                json2labelImg(str(path), str(folder / f"{number}.png"), "trainIds")

    return Row(
        f"{source} to train ids, one image",
        "ms of CPU",
        pair=in_turns(ours, theirs, bench.rounds, scale=1000 / frames),
        must=must,
        aim=aim,
        equal="pixel for pixel",
        note=f"both sides: file to file, {frames} of them; the peer always starts from polygons",
    )


def linked_dataset(frames: Path, root: Path, kinds: List[str], names: int = 1) -> Path:
    """A dataset of links to some kinds of files: all frames for training, the first also for validation.

    Args:
        names: under how many names each frame stands for training.
    """
    for kind in kinds:
        for number, path in enumerate(sorted(frames.glob(f"*/train/*/*{SUFFIXES[kind]}"))):
            tree, _, city, name = path.relative_to(frames).parts
            _, sequence, rest = name.split("_", 2)
            _link(root / tree / "train" / city / name, path)
            for copy in range(1, names):
                _link(root / tree / "train" / city / f"{city}_{int(sequence) + 1000 * copy:06d}_{rest}", path)
            if number == 0:
                _link(root / tree / "val" / city / name, path)
    return root


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target.resolve())


PARTS = (from_polygons, from_label_ids)
