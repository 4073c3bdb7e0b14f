"""One frame that is trained or evaluated on; all that the datasets need to know of lists and manifests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional


@dataclasses.dataclass(frozen=True)
class Entry:
    """One frame and its files.

    Attributes:
        frame: name, `aachen_000000_000019`.
        image: path of the 8-bit color PNG.
        label: path of the 8-bit PNG of train ids; None where there is no ground truth.
        instances: path of the 16-bit PNG of instance ids; None where there is none.
        image_sha256, label_sha256, instances_sha256: hex digests that the files must have when they are read; None only
            for files that were not checked, such as those of a benchmark.
    """

    frame: str
    image: Path
    label: Optional[Path] = None
    image_sha256: Optional[str] = None
    label_sha256: Optional[str] = None
    instances: Optional[Path] = None
    instances_sha256: Optional[str] = None
