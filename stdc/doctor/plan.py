"""What a run will ask of the machine, read from its configuration."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from stdc import recipe
from stdc.data.layout import find_images
from stdc.doctor import facts
from stdc.errors import InputError
from stdc.files import open_file
from stdc.machine.devices import kernel_flags
from stdc.machine.environment import asked_devices
from stdc.published.reference import load_reference
from stdc.units import Size

_BYTES_PER_NUMBER = 4
#: Size of a Cityscapes image, (height, width).
_DEFAULT_SIZE: Size = (1024, 2048)
#: Bytes per pixel of a train id raster as PNG, at most: large areas of one value; a tenth of this is usual.
_LABEL_BYTES_PER_PIXEL = 0.1
_IMAGE_BYTES_PER_PIXEL = 3.0
#: What the report, the records for VisualDL and the logs take together.
_PAGES_BYTES = 50_000_000
#: Of the schema, where a configuration says nothing.
_FRAME_CACHE_GB = 40.0
#: Main memory of a process that has loaded Paddle and a network.
_PROCESS_BYTES = 2_000_000_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the run will ask for. Sizes are (height, width) in pixels.

    Attributes:
        device, devices, threads, workers: kind and number of devices, CPU threads per process, data workers per
            device.
        backbone: "stdc1" or "stdc2".
        device_batch: images per device and step.
        kernel_flags: Paddle flags of the recipe's kernels, see `devices.kernel_flags`.
        crop: of a training image.
        eval_size: of a validation image.
        scale: the largest factor that evaluation resizes images by.
        flip: whether evaluation mirrors images.
        keep: checkpoints kept.
        seeds: trainings.
        dataset: the user's folder; None: generated.
        data_bytes: what extraction, generation and label conversion will write.
        train_frames: images to train on; 0 where they are still in archives.
        frame_cache: folder for decoded frames; None: there is none.
        frame_cache_gb: most that they may take, in 10^9 bytes.
        folder: working directory of the run.
    """

    device: str
    devices: int
    threads: int
    workers: int
    backbone: str
    device_batch: int
    kernel_flags: Mapping[str, bool]
    crop: Size
    eval_size: Size
    scale: float
    flip: bool
    keep: int
    seeds: int
    dataset: Optional[str]
    data_bytes: int
    train_frames: int
    frame_cache: Optional[str]
    frame_cache_gb: float
    folder: str

    def weights_bytes(self) -> int:
        """Of one weights file."""
        return load_reference().backbones[self.backbone].stored_numbers * _BYTES_PER_NUMBER

    def disk_needs(self) -> Dict[str, int]:
        """Bytes that the run will have written at its largest, by what for."""
        weights = self.weights_bytes()
        return {
            "dataset and labels": self.data_bytes,
            # Weights and momentum; the best weights; one more while the oldest is not deleted yet.
            "checkpoints": self.seeds * ((self.keep + 1) * 2 * weights + weights),
            "results": self.seeds * 2 * weights + _PAGES_BYTES,
        }

    def frame_cache_bytes(self) -> int:
        """What all training frames would take decoded; those of validation are read once per evaluation."""
        # Needs NumPy, see below.
        from stdc.data.frame_cache import frame_bytes

        return self.train_frames * frame_bytes(*self.eval_size)

    def batches_in_flight_bytes(self) -> int:
        """Main memory of the batches that are ready or being filled: 8-bit image and label."""
        # Needs NumPy, whose absence the doctor has to tell in words.
        from stdc.training.loader import slot_count

        pixels = self.crop[0] * self.crop[1]
        return self.devices * slot_count(self.workers, self.device_batch) * self.device_batch * pixels * (3 + 1)

    def memory_needs(self) -> int:
        """Main memory of the batches in flight and of one process of Paddle per device."""
        return self.batches_in_flight_bytes() + self.devices * _PROCESS_BYTES


def make_plan(
    config: Mapping[str, Any],
    *,
    folder: str,
    device: Optional[str] = None,
    devices: Optional[int] = None,
    threads: Optional[int] = None,
    workers: Optional[int] = None,
    dataset: Optional[str] = None,
    eval_size: Optional[Size] = None,
) -> Plan:
    """The plan of a configuration on given hardware. What is left out is found as the profiles and the rules find it.

    Args:
        config: sections `model`, `train`, `evaluate`, and, where there are any, `seeds`, `hardware` and `synthetic`.
        folder: working directory of the run.
        device: default: STDC_DEVICE, which the images set, else the configuration's, else the CPU.
        devices: default: STDC_DEVICES, else those in this machine, else the configuration's.
        threads, workers: default: the configuration's.
        dataset: overrides the configuration's own.
        eval_size: overrides what the dataset shows.
    Raises:
        InputError: a section or key is missing or wrong; the batch cannot be divided over the devices.
    """
    for section in ("model", "train", "evaluate"):
        if not isinstance(config.get(section), Mapping):
            raise InputError(f"configuration: section {section!r} is missing; give a recipe of config/")
    hardware = config.get("hardware") or {}
    device = device or os.environ.get("STDC_DEVICE") or str(hardware.get("device") or "cpu")
    if not devices:
        devices = asked_devices(os.environ) or facts.present_devices(device)
        devices = devices or int(hardware.get("devices") or 1)
    backbone = config["model"].get("backbone")
    known = load_reference().backbones
    if backbone not in known:
        raise InputError(f"model.backbone: {backbone!r} is not one of {', '.join(sorted(known))}")
    trained = recipe.resolve(config["train"])
    protocols = config["evaluate"].get("protocols") or [{}]
    dataset = dataset or config.get("dataset")
    synthetic = config.get("synthetic") or {}
    size, data_bytes, train_frames = _generated(synthetic) if dataset is None else _on_disk(Path(dataset))
    return Plan(
        device=device,
        devices=devices,
        threads=threads or int(hardware.get("threads") or 1),
        workers=int(hardware.get("workers", 2)) if workers is None else workers,
        backbone=backbone,
        device_batch=trained.schedule.per_device_batch(devices),
        kernel_flags=kernel_flags(trained.kernels),
        crop=(trained.augmentation.crop_height, trained.augmentation.crop_width),
        eval_size=eval_size or size,
        scale=max(float(scale) for protocol in protocols for scale in protocol.get("scales") or [1.0]),
        flip=any(protocol.get("flip") for protocol in protocols),
        keep=int(config["train"].get("keep_checkpoint_max") or 1),
        seeds=len(config.get("seeds") or [0]),
        dataset=dataset,
        data_bytes=data_bytes,
        train_frames=train_frames,
        frame_cache=hardware.get("frame_cache"),
        frame_cache_gb=float(hardware.get("frame_cache_gb") or _FRAME_CACHE_GB),
        folder=folder,
    )


def as_dict(plan: Plan) -> Dict[str, Any]:
    """Plain values, for the processes that try things out."""
    return dataclasses.asdict(plan)


def from_dict(values: Mapping[str, Any]) -> Plan:
    """The reverse of `as_dict`."""
    return Plan(**dict(values, crop=tuple(values["crop"]), eval_size=tuple(values["eval_size"])))


def _generated(synthetic: Mapping[str, Any]) -> Tuple[Size, int, int]:
    """Size of an image, bytes that will be written, images to train on."""
    if not {"height", "width"} <= set(synthetic):
        return _DEFAULT_SIZE, 0, 0
    size = int(synthetic["height"]), int(synthetic["width"])
    frames = sum(int(synthetic.get(split) or 0) for split in ("train", "val", "test"))
    data_bytes = int(frames * size[0] * size[1] * (_IMAGE_BYTES_PER_PIXEL + 3 * _LABEL_BYTES_PER_PIXEL))
    return size, data_bytes, int(synthetic.get("train") or 0)


def _on_disk(root: Path) -> Tuple[Size, int, int]:
    """Size of the first validation image, bytes that will be written for this dataset, images to train on.

    Raises:
        InputError: no such folder.
    """
    if not root.is_dir():
        raise InputError(f"dataset: {root}: no such folder; in a container, is it mounted (-v {root}:/data:ro)?")
    size, frames, train_frames = _DEFAULT_SIZE, 0, 0
    for image in find_images(root):
        if frames == 0:
            size = _png_size(image) or size
        frames += 1
        train_frames += image.parts[-3] == "train"
    labels = int(frames * size[0] * size[1] * _LABEL_BYTES_PER_PIXEL)
    # A zip holds PNG files, which do not get smaller by zipping: unpacked they take as much again.
    archives = sum(path.stat().st_size for path in root.glob("*.zip")) if frames == 0 else 0
    return size, labels + archives, train_frames


def _png_size(path: Path) -> Optional[Size]:
    """(height, width) from the header; None where there is none."""
    with open_file(path) as handle:
        head = handle.read(24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
