"""Pictures of single frames as data URIs: image, truth, prediction, errors."""

from __future__ import annotations

import base64
from typing import Any, Callable, List, Mapping, NamedTuple, Sequence

import numpy as np

from stdc.data.dataset import read_image, read_label
from stdc.pictures import at_most_wide, color_map, encode_jpeg, encode_png, error_map

#: Width of a picture in pixels; two stand side by side on the page.
WIDTH = 512

_JPEG_QUALITY = 82

#: Position of a frame in `per_image` -> predicted train ids (H, W), uint8.
Predict = Callable[[int], np.ndarray]


class Choice(NamedTuple):
    """A frame to show: its position in `per_image`, and why it was chosen."""

    position: int
    why: str


class Picture(NamedTuple):
    """One frame, as data URIs."""

    frame: str
    why: str
    miou: Any
    pixel_accuracy: Any
    image: str
    truth: str
    prediction: str
    errors: str


def choose_frames(per_image: Sequence[Mapping[str, Any]], count: int) -> List[Choice]:
    """`count` frames from best to worst by their mIoU, evenly spaced in that order; those without a score are left out.

    Args:
        per_image: entries of `metrics.json` with `frame` and `miou`.
    """
    scored = [index for index, entry in enumerate(per_image) if entry.get("miou") is not None]
    scored.sort(key=lambda index: (-per_image[index]["miou"], per_image[index]["frame"]))
    count = min(count, len(scored))
    if count < 1:
        return []
    # Integer arithmetic that rounds halves up: round() would take halves to the even neighbor.
    places = [0] if count == 1 else [(2 * k * (len(scored) - 1) + count - 1) // (2 * (count - 1)) for k in range(count)]
    return [Choice(scored[place], _why(place, len(scored))) for place in places]


def _why(place: int, count: int) -> str:
    if place == 0:
        return "best"
    if place == count - 1:
        return "worst"
    return f"place {place + 1} of {count}"


def make_pictures(
    per_image: Sequence[Mapping[str, Any]], choices: Sequence[Choice], pairs: Mapping[str, Any], predict: Predict
) -> List[Picture]:
    """Pictures of the chosen frames.

    Args:
        per_image: entries of `metrics.json`.
        pairs: entries of the validation list, by frame.
        predict: gives the prediction for a position in `per_image`.
    """
    made = []
    for choice in choices:
        entry = per_image[choice.position]
        pair = pairs[entry["frame"]]
        image = read_image(pair.image, pair.image_sha256)
        truth = read_label(pair.label, image.shape[:2], pair.label_sha256)
        prediction = predict(choice.position)
        made.append(
            Picture(
                frame=str(entry["frame"]),
                why=choice.why,
                miou=entry["miou"],
                pixel_accuracy=entry.get("pixel_accuracy"),
                image=jpeg_uri(image),
                truth=png_uri(color_map(truth)),
                prediction=png_uri(color_map(prediction)),
                errors=jpeg_uri(error_map(image, truth, prediction)),
            )
        )
    return made


def jpeg_uri(image: np.ndarray) -> str:
    """A photograph, (H, W, 3), uint8, RGB, as a JPEG of at most `WIDTH` pixels across."""
    return _uri("image/jpeg", encode_jpeg(at_most_wide(image, WIDTH, mix_colors=True), _JPEG_QUALITY))


def png_uri(image: np.ndarray) -> str:
    """Flat colors, (H, W, 3), uint8, RGB, as a PNG of at most `WIDTH` pixels across; shrinking mixes no colors."""
    return _uri("image/png", encode_png(at_most_wide(image, WIDTH, mix_colors=False), compression=9))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
