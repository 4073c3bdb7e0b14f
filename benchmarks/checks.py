"""The check of a dataset: what a frame costs, where its time goes at best, and what a check that goes on costs."""

from __future__ import annotations

import hashlib
import statistics
import time
from typing import List

from conversion import linked_dataset
from rows import Bench, Row, timed

from stdc.data import codecs
from stdc.data.inventory import check_dataset
from stdc.data.layout import IMAGE, INSTANCE_IDS, LABEL_IDS, POLYGONS, SUFFIXES
from stdc.data.png import SIGNATURE

#: As many as the official training, validation, and test splits together.
_FRAMES = 5000


def dataset(bench: Bench) -> List[Row]:
    """CPU seconds for 5,000 frames, from some."""
    root = linked_dataset(bench.frames, bench.scratch / "checks", [IMAGE, LABEL_IDS, POLYGONS, INSTANCE_IDS])
    frames = len(list(root.glob(f"leftImg8bit/*/*/*{SUFFIXES[IMAGE]}")))
    images = [path.read_bytes() for path in sorted(root.glob(f"leftImg8bit/*/*/*{SUFFIXES[IMAGE]}"))]
    journal = bench.scratch / "journal"
    # Files that were written a moment ago are not noted.
    time.sleep(0.2)
    check_dataset(root, "any", journal=journal)

    def limit() -> None:
        for data in images:
            hashlib.sha256(data).hexdigest()
            codecs.inflate(_image_data(data), 1 << 30)

    def of_all(seconds: List[float]) -> float:
        return statistics.median(seconds) / frames * _FRAMES

    size = sum(map(len, images)) / len(images) / 1e6
    return [
        Row(
            f"check of {_FRAMES} frames, images of {size:.1f} MB",
            "s of CPU",
            ours=of_all(timed(lambda: check_dataset(root, "any"), bench.rounds)),
            limit=of_all(timed(limit, bench.rounds)),
            must=150,
            aim=100,
            note="all files of a frame; limit: SHA-256 and inflating of the images alone",
        ),
        Row(
            f"check of {_FRAMES} frames that goes on at the end",
            "s of CPU",
            ours=of_all(timed(lambda: check_dataset(root, "any", journal=journal), bench.rounds)),
            note="every frame was found sound before: sizes, times, and inodes are compared",
        ),
    ]


def _image_data(data: bytes) -> bytes:
    """The packed image data of a sound PNG."""
    parts, position = [], len(SIGNATURE)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IDAT":
            parts.append(data[position + 8 : position + 8 + length])
        position += 12 + length
    return b"".join(parts)


PARTS = (dataset,)
