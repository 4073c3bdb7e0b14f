"""Pictures of single frames as data URIs: image, truth, prediction, errors."""

from __future__ import annotations

import base64
from typing import Any, Callable, List, Mapping, NamedTuple, Sequence

import cv2
import numpy as np

from stdc.data.dataset import read_image, read_label
from stdc.data.labels import IGNORE, TRAIN_ID_TO_COLOR

#: Width of a picture in pixels; two stand side by side on the page.
WIDTH = 512

_JPEG_QUALITY = 82
_ERROR_COLOR = (232, 62, 54)

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
        pairs: list entries by frame, with `image` and `label` paths.
        predict: gives the prediction for a position in `per_image`.
    """
    made = []
    for choice in choices:
        entry = per_image[choice.position]
        pair = pairs[entry["frame"]]
        image = read_image(pair.image)
        truth = read_label(pair.label, image.shape[:2])
        prediction = predict(choice.position)
        made.append(
            Picture(
                frame=str(entry["frame"]),
                why=choice.why,
                miou=entry["miou"],
                pixel_accuracy=entry.get("pixel_accuracy"),
                image=jpeg_uri(image),
                truth=png_uri(TRAIN_ID_TO_COLOR[truth]),
                prediction=png_uri(TRAIN_ID_TO_COLOR[prediction]),
                errors=jpeg_uri(error_map(image, truth, prediction)),
            )
        )
    return made


def error_map(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The image in gray, wrong pixels in red; pixels that do not count are dark."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) * 0.6 + 60
    shown = np.repeat(gray[..., None], 3, axis=2)
    counted = truth != IGNORE
    wrong = counted & (truth != prediction)
    shown[wrong] = 0.25 * shown[wrong] + 0.75 * np.array(_ERROR_COLOR, np.float32)
    shown[~counted] *= 0.35
    return shown.round().clip(0, 255).astype(np.uint8)


def jpeg_uri(image: np.ndarray) -> str:
    """A photograph, (H, W, 3), uint8, RGB, as a JPEG of at most `WIDTH` pixels across."""
    return _uri(_shrunk(image, cv2.INTER_AREA), ".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY], "image/jpeg")


def png_uri(image: np.ndarray) -> str:
    """Flat colors, (H, W, 3), uint8, RGB, as a PNG of at most `WIDTH` pixels across; shrinking mixes no colors."""
    return _uri(_shrunk(image, cv2.INTER_NEAREST), ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9], "image/png")


def _shrunk(image: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    if width <= WIDTH:
        return image
    return cv2.resize(image, (WIDTH, max(1, round(height * WIDTH / width))), interpolation=interpolation)


def _uri(image: np.ndarray, suffix: str, options: List[int], kind: str) -> str:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot write {suffix}")
    return f"data:{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"
