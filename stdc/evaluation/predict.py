"""Predictions for whole images, at one scale or several, with or without mirroring.

Two ways of scaling, each that of the figures it is compared with:

* One scale without mirroring (the paper's Seg50 and Seg75; ``evaluation.py`` of the authors' code): the image is
  resized, the logits are resized back, both with aligned corners; the largest logit is the prediction.
* Several scales or mirroring (PaddleSeg's development branch, ``core/infer.py`` since its pull request 2933): every
  scale starts from the original image, corners are not aligned, and the logits of the passes, resized back before, are
  averaged. (Version 2.7 went on from the image resized last, and averaged softmax values.)

Scale 1 is the image as it is in both. Passes that protocols have in common are run once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
import paddle
import paddle.nn.functional as F

from stdc import files, recipe
from stdc.data.dataset import EvalDataset, read_image
from stdc.errors import InputError
from stdc.evaluation.submission import PREDICTION_SUFFIX, prediction_png
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_segmentor
from stdc.pictures import encode_jpeg, overlay
from stdc.weights import array_files


class Protocol(NamedTuple):
    """How images are evaluated.

    Attributes:
        name: in results and tables.
        scales: factors of the image's size, each once, ascending.
        flip: add a mirrored pass at every scale.
    """

    name: str
    scales: Tuple[float, ...]
    flip: bool


class _Pass(NamedTuple):
    """One run of the network on one image."""

    scale: float
    align_corners: bool
    flip: bool


def read_protocols(section: Sequence[Mapping[str, Any]]) -> List[Protocol]:
    """Protocols of the configuration key `evaluate.protocols`, in its order.

    Raises:
        InputError: none, a name given twice, no scale, or a scale that is not positive.
    """
    if not section:
        raise InputError("evaluate.protocols: empty; at least one is needed, for example {name: full, scales: [1.0]}")
    protocols: List[Protocol] = []
    for number, entry in enumerate(section):
        name = str(entry.get("name"))
        scales = sorted({float(scale) for scale in entry.get("scales") or ()})
        if name in {protocol.name for protocol in protocols}:
            raise InputError(f"evaluate.protocols[{number}].name: {name!r} is there twice")
        if not scales or scales[0] <= 0:
            raise InputError(f"evaluate.protocols[{number}].scales: {entry.get('scales')}; expected positive factors")
        protocols.append(Protocol(name, tuple(scales), bool(entry.get("flip", False))))
    return protocols


def load_network(section: Mapping[str, Any], path: files.PathLike) -> paddle.nn.Layer:
    """A network in evaluation mode with every one of its parameters from a file.

    Args:
        section: the `model` section: backbone, pool_counts_padding.
        path: `.pdparams` or `.safetensors`. The heads that PaddleSeg saves and never runs are left out.
    Raises:
        InputError: the file is unreadable, or a parameter is missing, unknown or of another shape.
    """
    network = recipe.part_of(recipe.Network, section)
    model = build_segmentor(network.backbone, pool_counts_padding=network.pool_counts_padding)
    load_segmentor(model, array_files.read(path), str(path))
    model.eval()
    return model


def predict(model: paddle.nn.Layer, image: np.ndarray, protocols: Sequence[Protocol]) -> List[np.ndarray]:
    """Predict one image under every protocol.

    Args:
        model: in evaluation mode; gives logits (1, C, H, W).
        image: normalized, (3, H, W), float32.
    Returns:
        For each protocol the train ids (H, W), uint8.
    """
    plans = [_passes(protocol) for protocol in protocols]
    sums: Dict[int, paddle.Tensor] = {}
    predictions: Dict[int, np.ndarray] = {}
    with paddle.no_grad():
        pixels = paddle.to_tensor(image[None])
        for step in sorted(set().union(*plans)):
            logits = _logits(model, pixels, step)
            for number, plan in enumerate(plans):
                if step not in plan:
                    continue
                sums[number] = sums[number] + logits if number in sums else logits
                if step == plan[-1]:
                    total = sums.pop(number)
                    predictions[number] = _largest(total / len(plan) if len(plan) > 1 else total)
    return [predictions[number] for number in range(len(protocols))]


def write_predictions(
    model: paddle.nn.Layer,
    dataset: EvalDataset,
    protocol: Protocol,
    folder: Path,
    overlays: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Write the prediction of every image of `dataset` as a PNG of label ids.

    Args:
        folder: gets `<frame>_pred_labelIds.png`.
        overlays: also write `overlays/<frame>_overlay.jpg`, the image with the classes' colors half over it. JPEG,
            since the official script would take a second PNG of the frame for a second prediction.
        progress: called after each image.
    """
    for index, entry in enumerate(dataset.entries):
        (prediction,) = predict(model, dataset[index][0], [protocol])
        files.write_bytes(folder / f"{entry.frame}{PREDICTION_SUFFIX}", prediction_png(prediction))
        if overlays:
            picture = encode_jpeg(overlay(read_image(entry.image, entry.image_sha256), prediction))
            files.write_bytes(folder / "overlays" / f"{entry.frame}_overlay.jpg", picture)
        progress()


def _passes(protocol: Protocol) -> List[_Pass]:
    """The passes of a protocol, ascending."""
    if len(protocol.scales) == 1 and not protocol.flip:
        return [_Pass(protocol.scales[0], protocol.scales[0] != 1.0, False)]
    flips = (False, True) if protocol.flip else (False,)
    return [_Pass(scale, False, flip) for scale in sorted(protocol.scales) for flip in flips]


def _logits(model: paddle.nn.Layer, pixels: paddle.Tensor, step: _Pass) -> paddle.Tensor:
    """Logits of one pass at the size of `pixels`, (1, C, H, W)."""
    size = list(pixels.shape[2:])
    if step.scale != 1.0:
        # Each source's own rounding.
        extra = 0.0 if step.align_corners else 0.5
        scaled = [max(int(length * step.scale + extra), 1) for length in size]
        pixels = _resize(pixels, scaled, step)
    if step.flip:
        pixels = paddle.flip(pixels, axis=[3])
    logits = model(pixels)
    if step.flip:
        logits = paddle.flip(logits, axis=[3])
    return _resize(logits, size, step)


def _resize(tensor: paddle.Tensor, size: List[int], step: _Pass) -> paddle.Tensor:
    if list(tensor.shape[2:]) == size:
        return tensor
    return F.interpolate(tensor, size, mode="bilinear", align_corners=step.align_corners)


def _largest(scores: paddle.Tensor) -> np.ndarray:
    return paddle.argmax(scores, axis=1)[0].numpy().astype(np.uint8)
