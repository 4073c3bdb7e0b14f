"""What a training job is given beside its recipe: the files it reads, the files it leaves, and where it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Optional

from stdc.machine.nodes import ONE_NODE, Nodes


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Files and folders a training job reads.

    Attributes:
        dataset, labels: folder of the images, and of the label rasters.
        manifest, index: what was checked of the one, and what was made in the other.
        train_list, val_list: lists of image and label pairs.
        backbone: weights to start from, of the backbone or of a whole network; None: random initialization.
        start_record: what these weights are, for the provenance (`stdc.weights.fetch.Fetched`).
    """

    dataset: Path
    labels: Path
    manifest: Path
    index: Path
    train_list: Path
    val_list: Path
    backbone: Optional[Path]
    start_record: Optional[Path] = None


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Files a training job leaves; each is written once, at the end."""

    model: Path
    best: Optional[Path]
    history: Path
    provenance: Path
    vdl: Optional[Path]

    def paths(self) -> List[Path]:
        """Those that are asked for, the weights first."""
        named = (self.model, self.best, self.history, self.provenance, self.vdl)
        return [path for path in named if path is not None]


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Where a job runs.

    Attributes:
        device: kind of device.
        devices: how many of them; one rank per device.
        threads: CPU threads per process.
        workers: data worker processes per device.
        micro_batch: images per forward pass; None: all images that a device has per step.
        portable_sync_batch_norm: synchronize batch norms by collectives of ours although Paddle has a kernel for it.
        nodes: the machines, each with so many devices.
        frame_cache: path of the folder for decoded frames, as it was given; None: every sample decodes its files.
        frame_cache_gb: most that they may take, in 10^9 bytes.
    """

    device: str
    devices: int
    threads: int
    workers: int
    micro_batch: Optional[int] = None
    portable_sync_batch_norm: bool = False
    nodes: Nodes = ONE_NODE
    frame_cache: Optional[str] = None
    frame_cache_gb: float = 0.0

    @property
    def world_size(self) -> int:
        """Number of ranks: devices of all nodes."""
        return self.devices * self.nodes.count
