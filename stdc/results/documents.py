"""The shapes of the documents that a run leaves: the keys that are read, and the kinds of their values.

A key may be absent, or null, where runs of earlier versions, or shorter ones, have none.
"""

from __future__ import annotations

from stdc.data.labels import TRAIN_NAMES
from stdc.results.shapes import count, fraction, list_of, map_of, number, optional, size

PROTOCOL = {
    "name?": optional(str),
    "scales?": optional(list_of(number(0))),
    "flip?": optional(bool),
    "size?": size,
    "precision?": optional(str),
    "backend?": optional(str),
    "weights_sha256?": optional(str),
}
SCORES = map_of(optional(fraction))
EVALUATION = {
    "miou": optional(fraction),
    "class_iou": SCORES,
    "category_iou?": SCORES,
    "pixel_accuracy?": optional(fraction),
    "confusion": list_of(list_of(count(), length=len(TRAIN_NAMES)), length=len(TRAIN_NAMES)),
    "images": count(),
    "protocol": PROTOCOL,
    "iiou?": optional({"class_iiou?": SCORES, "category_iiou?": SCORES, "miiou?": optional(fraction)}),
}
METRICS = {
    **EVALUATION,
    "manifest_sha256?": optional(str),
    "list_sha256?": optional(str),
    "protocols?": list_of(EVALUATION),
    "per_image?": list_of(
        {
            "frame": str,
            "miou?": optional(fraction),
            "pixel_accuracy?": optional(fraction),
            "intersection?": list_of(count(), length=len(TRAIN_NAMES)),
            "union?": list_of(count(), length=len(TRAIN_NAMES)),
        }
    ),
}
SPEED = {
    "inference?": optional(
        {
            "fps?": optional(number(0)),
            "latency_ms?": map_of(number(0)),
            "size?": size,
            "batch?": count(),
            "warmup?": count(),
            "iterations?": count(),
            "threads?": optional(count()),
            "precision?": optional(str),
            "backend?": optional(str),
            "method?": optional(str),
            "beside?": optional({"others": bool, "devices": count(), "cpu_cores?": optional(number(0))}),
        }
    ),
    "training?": optional(
        {
            "images_per_s?": optional(number(0)),
            "images_per_s_per_device?": optional(number(0)),
            "reader_wait_share?": optional(fraction),
            "devices?": optional(count()),
            "beside_devices?": optional(count()),
        }
    ),
}
SEGMENT = {
    "started?": optional(str),
    "finished?": optional(str),
    "commit?": optional(str),
    "dirty?": optional(bool),
    "from_iteration?": optional(count()),
    "to_iteration?": optional(count()),
}
WEIGHTS = {"sha256": str, "source?": optional(str), "checksum?": optional(str), "backbone?": optional(str)}
PROVENANCE = {
    "commit?": optional(str),
    "dirty?": optional(bool),
    "started?": optional(str),
    "finished?": optional(str),
    "run_hash?": optional(str),
    "manifest_sha256?": optional(str),
    "seed?": optional(count()),
    "recipe?": optional(dict),
    "identity?": optional(
        {
            "inputs?": optional(map_of(optional(str))),
            "network?": optional(dict),
            "world_size?": optional(count(1)),
            "micro_batch?": optional(count(1)),
        }
    ),
    "versions?": optional(map_of(str)),
    "hardware?": optional(
        {"devices?": optional(count(1)), "threads?": optional(count()), "workers?": optional(count())}
    ),
    "segments?": optional(list_of(SEGMENT)),
    "start?": optional({"sha256": str, "source?": optional(str), "checksum?": optional(str)}),
}
EVENT = {"iteration": count(), "class_iou?": optional(SCORES)}
MANIFEST = {
    "expected?": optional(str),
    "label_source?": optional(str),
    "splits?": map_of({"frames?": count(), "cities?": map_of(count())}),
    "sizes?": list_of(size),
    "frames?": list_of({"frame": str, "split": str, "image": {"sha256": str}}),
}
CONFIG = {
    "name": str,
    "seeds": list_of(count()),
    "dataset_kind": str,
    "model": {"backbone": str, "pretrained?": optional({"source?": optional(str), "sha256?": optional(str)})},
    "train": dict,
    "data": {"separator?": str, "subset?": optional(map_of(optional(count())))},
    "report": {"overlays?": optional(count())},
    "evaluate": {
        "protocols?": list_of({"name?": optional(str), "scales?": list_of(number(0)), "flip?": optional(bool)})
    },
}
