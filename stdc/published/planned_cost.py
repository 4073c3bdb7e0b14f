"""What a planned run will cost: iterations, samples, epochs, and hours where a speed is known."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from stdc.errors import InputError
from stdc.files import read_json
from stdc.published.evidence import Evidence
from stdc.published.figures import Reference
from stdc.units import counted


class TrainingSpeed(NamedTuple):
    """How fast training is known to be.

    Attributes:
        images_per_s: of all devices together.
        text: where the number comes from.
    """

    images_per_s: float
    text: str


def known_speed(evidence: Evidence, folder: Path, device: str, devices: int) -> Optional[TrainingSpeed]:
    """Training speed of the newest finished run in `folder` with the same network, crop, and device."""
    augmentation = evidence.recipe.augmentation
    wanted = (evidence.network.backbone, augmentation.crop_height, augmentation.crop_width, device)
    found: List[Tuple[float, str, float]] = []
    # Of recipes alone, and of the experiments of sweeps.
    for path in (*folder.glob("results/*/seed*/speed.json"), *folder.glob("results/*/*/seed*/speed.json")):
        try:
            training = read_json(path)["training"]
            made = read_json(path.with_name("provenance.json"))
            trained = made["recipe"]
            key = (
                made["config"]["model"].get("backbone"),
                trained["crop_height"],
                trained["crop_width"],
                made["hardware"]["device"],
            )
            images = float(training["images_per_s_per_device"])
            if key == wanted and images > 0:
                found.append((path.stat().st_mtime, str(path.relative_to(folder)), images))
        except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError):
            # Other people's files are no reason to withhold a forecast.
            continue
    if not found:
        return None
    _, name, images = max(found)
    return TrainingSpeed(images * devices, f"{images:.2f} images/s per device in {name}, times {devices}")


def cost_lines(evidence: Evidence, reference: Reference, speed: Optional[TrainingSpeed], devices: int) -> List[str]:
    """Iterations, samples, epochs, and hours, in words."""
    schedule, seeds = evidence.recipe.schedule, len(evidence.seeds)
    samples = schedule.iterations * schedule.global_batch
    frames = evidence.dataset.train_subset or (evidence.dataset.frames or {}).get("train")
    epochs = f", {samples / frames:.1f} epochs of {frames}" if frames else ""
    times = f", for each of {seeds} seeds" if seeds > 1 else ""
    lines = [f"{schedule.iterations} iterations of {schedule.global_batch} images: {samples:,} samples{epochs}{times}"]
    if speed is not None:
        hours = seeds * samples / speed.images_per_s / 3600
        return [*lines, f"about {_hours(hours)} of training ({speed.text})"]
    crop = (evidence.recipe.augmentation.crop_height, evidence.recipe.augmentation.crop_width)
    of_the_kind = (one for one in reference.speeds if one.kind == "training")
    published = next(
        (one for one in of_the_kind if (one.backbone, one.size) == (evidence.network.backbone, crop)), None
    )
    if published is None:
        return [*lines, "hours: not known before the first steps; no finished run here has this network and crop"]
    hours = seeds * samples / published.value / 3600
    return [
        *lines,
        f"hours: no finished run here to go by; at the published {published.value:g} {published.unit} "
        f"({published.device}), {_hours(hours / devices)} on {counted(devices, 'device')} if that is the speed of each "
        f"card, {_hours(hours)} if it is that of all cards",
    ]


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 1 else f"{hours:.1f} hours" if hours < 100 else f"{hours:.0f} hours"
