"""Label conversion beside the peer's: PaddleSeg converts by cityscapesscripts' json2labelImg, file by file."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import List

from cityscapesscripts.preparation.json2labelImg import json2labelImg

from benchmarks.rows import Bench, Row, in_turns
from stdc.data.convert import convert_labels
from stdc.data.inventory import check_dataset
from stdc.data.layout import IMAGE, LABEL_IDS, POLYGONS, SUFFIXES
from stdc.files import write_json


def rows(bench: Bench) -> List[Row]:
    """CPU time per image from polygons, and from label ids, to train ids on the disk."""
    found = []
    for source, must, aim in ((POLYGONS, 4.0, 6.0), (LABEL_IDS, 3.0, 5.0)):
        scratch = bench.scratch / source
        root = linked_dataset(bench.frames, scratch / "dataset", [IMAGE, source])
        manifest = scratch / "manifest.json"
        write_json(manifest, check_dataset(root, "any"))
        annotations = sorted(bench.frames.glob(f"gtFine/*/*/*{SUFFIXES[POLYGONS]}"))
        frames = len(list(root.glob(f"gtFine/*/*/*{SUFFIXES[source]}")))

        def ours(root: Path = root, manifest: Path = manifest, scratch: Path = scratch) -> None:
            convert_labels(root, manifest, scratch / "labels", scratch / "labels.json")

        def theirs(annotations: List[Path] = annotations, scratch: Path = scratch, frames: int = frames) -> None:
            with redirect_stdout(io.StringIO()):
                for number in range(frames):
                    path = annotations[number % len(annotations)]
                    json2labelImg(str(path), str(scratch / f"{path.stem}.png"), "trainIds")

        found.append(
            Row(
                f"{source} to train ids, one image",
                "ms of CPU",
                pair=in_turns(ours, theirs, bench.rounds, scale=1000 / frames),
                must=must,
                aim=aim,
                equal="pixel for pixel",
                note="both sides: file to file; the peer always starts from polygons",
            )
        )
    return found


def linked_dataset(frames: Path, root: Path, kinds: List[str]) -> Path:
    """A dataset of links to some kinds of files: all frames for training, the first also for validation."""
    for kind in kinds:
        for number, path in enumerate(sorted(frames.glob(f"*/train/*/*{SUFFIXES[kind]}"))):
            tree, _, city, name = path.relative_to(frames).parts
            for split in ("train", "val") if number == 0 else ("train",):
                link = root / tree / split / city / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
    return root
