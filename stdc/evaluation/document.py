"""The content of `metrics.json`."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np

from stdc import files
from stdc.evaluation import metrics
from stdc.evaluation.counts import Counts


class Computed(NamedTuple):
    """What computed the counts.

    Attributes:
        weights_sha256: of the weights file.
        backend: such as "paddle 3.3.1 cpu".
        precision: of the products, from `stdc.machine.devices.precision`.
        other_backend: with which some images were compared; "" for none.
    """

    weights_sha256: str
    backend: str
    precision: str = "float32"
    other_backend: str = ""


def document(counts: Sequence[Counts], frames: Sequence[str], computed: Computed) -> Dict[str, Any]:
    """The content of `metrics.json`: figures of the first protocol, then of each, then each image under the first.

    Args:
        counts: of every image of the set.
        frames: names, in the order of the dataset.
    Raises:
        ValueError: an image was not evaluated.
    """
    missing = [frame for index, frame in enumerate(frames) if any(index not in count.confusions for count in counts)]
    if missing:
        raise ValueError(f"{len(missing)} of {len(frames)} images were not evaluated, the first is {missing[0]}")
    described = [_protocol_figures(count, frames, computed) for count in counts]
    result = {**described[0], "protocols": described, "per_image": scores_of_images(counts[0], frames)}
    compared = counts[0].compared
    if compared:
        result["backend_comparison"] = {
            "backend": computed.other_backend,
            "images": len(compared),
            "pixels": sum(pixels for pixels, _ in compared.values()),
            "differing_pixels": sum(differing for _, differing in compared.values()),
        }
    return result


def scores_of_images(count: Counts, frames: Sequence[str]) -> List[Dict[str, Any]]:
    """The scores of each image, sorted by frame."""
    return [
        {
            "frame": frame,
            "miou": metrics.mean_iou(count.confusions[index]),
            "pixel_accuracy": metrics.pixel_accuracy(count.confusions[index]),
            # By train id: the IoU of any choice of images follows from their sums.
            **metrics.overlaps(count.confusions[index]),
        }
        for index, frame in sorted(enumerate(frames), key=lambda pair: pair[1])
    ]


def figures_of(count: Counts, frames: Sequence[str]) -> Dict[str, Any]:
    """The figures of a whole set, and of which images they are."""
    sizes = sorted(set(count.sizes.values()))
    result: Dict[str, Any] = {
        **metrics.figures(count.confusion),
        "images": len(frames),
        "image_names_sha256": files.sha256_text("".join(f"{frame}\n" for frame in sorted(frames))),
        # The size is None where the images differ: such a figure compares with nothing published.
        "protocol": {"name": count.protocol.name, "size": list(sizes[0]) if len(sizes) == 1 else None},
    }
    if len(count.objects) == len(frames):
        objects = np.concatenate([count.objects[index] for index in range(len(frames))])
        result["iiou"] = metrics.instance_iou(count.confusion, objects)
    return result


def _protocol_figures(count: Counts, frames: Sequence[str], computed: Computed) -> Dict[str, Any]:
    result = figures_of(count, frames)
    result["protocol"].update(
        scales=list(count.protocol.scales),
        flip=count.protocol.flip,
        precision=computed.precision,
        weights_sha256=computed.weights_sha256,
        backend=computed.backend,
    )
    return result
