"""A trained network as a user names it: weights with or without a configuration, or an exported network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from stdc.data.labels import NUM_CLASSES
from stdc.errors import InputError
from stdc.files import read_json, sha256_file
from stdc.machine import devices
from stdc.prediction import backends
from stdc.prediction.inference_predictor import (
    DESCRIPTION,
    PARAMETERS_SUFFIX,
    PROGRAM_SUFFIXES,
    InferencePredictor,
    program_and_parameters,
)
from stdc.prediction.predictor import Predictor
from stdc.prediction.protocols import FULL_SIZE, Protocol
from stdc.progress import Log
from stdc.recipe import Kernels, Network, Triple, normalization
from stdc.stages import EvaluateStage
from stdc.weights.reading import read_weights

#: What `export` writes in ONNX.
ONNX_SUFFIX = ".onnx"


class Wish(NamedTuple):
    """What a user asks for.

    Attributes:
        weights: `.pdparams`, `.safetensors`, or an exported network: `.onnx`, or one of the two files of Paddle's
            inference format, `.json` (`.pdmodel`) and `.pdiparams`.
        stage: the configuration that the weights were trained with; None where there is none.
        preset: whose normalization to take without a configuration: "paddleseg" or "authors".
        backend: "paddle" or "onnxruntime"; None takes the configuration's, or Paddle.
        device, threads: kind of device, CPU threads.
    """

    weights: Path
    stage: Optional[EvaluateStage]
    preset: str
    backend: Optional[str]
    device: str
    threads: int


class Trained(NamedTuple):
    """A network that can predict, and what it expects of images.

    Attributes:
        predictor: takes images normalized with `mean` and `std` (red, green, blue; scale 0 to 1).
        protocol: how images are seen.
    """

    predictor: Predictor
    mean: Triple
    std: Triple
    protocol: Protocol


def open_trained(wish: Wish, log: Log) -> Trained:
    """Make the device ready and open the network. To be called before paddle is imported.

    Raises:
        InputError: the weights are missing, unreadable, of another network, or do not go with the other wishes.
    """
    if wish.weights.suffix == ONNX_SUFFIX:
        return _open_onnx(wish)
    if wish.weights.suffix in (*PROGRAM_SUFFIXES, PARAMETERS_SUFFIX):
        return _open_inference(wish)
    stage = wish.stage
    mean, std = (stage.mean, stage.std) if stage else normalization({"preset": wish.preset})
    backend = wish.backend or (stage.evaluation.backend if stage else backends.PADDLE)
    backend = backends.resolve(backend, wish.device, log)
    kernels = stage.kernels if stage else Kernels()
    devices.prepare(wish.device, wish.threads, devices.kernel_flags(kernels))
    devices.select(wish.device)
    network = stage.network if stage else network_of(wish.weights)
    predictor = backends.open_predictor(backend, backends.Source(network, wish.weights, wish.device, wish.threads))
    return Trained(predictor, mean, std, stage.protocols[0] if stage else FULL_SIZE)


def network_of(weights: Path) -> Network:
    """Which network a file of weights belongs to, by the number of modules of its backbone.

    Raises:
        InputError: the file is unreadable, or of neither network.
    """
    from stdc.nn.backbone import STAGE_DEPTHS

    arrays = read_weights(weights)
    modules = 0
    while f"cp.backbone.features.{modules + 2}.conv_list.0.conv.weight" in arrays:
        modules += 1
    for backbone, depths in STAGE_DEPTHS.items():
        if sum(depths) == modules:
            return Network(backbone)
    raise InputError(
        f"{weights}: neither STDC1-Seg nor STDC2-Seg: {modules} modules in the backbone of a segmentor; "
        "give the weights of a whole trained network"
    )


def _open_onnx(wish: Wish) -> Trained:
    if not backends.has_onnxruntime():
        raise InputError(
            f"{wish.weights}: onnxruntime is not installed in this Python; take the weights the network was exported "
            "from, or an environment made from requirements/paddle-cpu.lock"
        )
    if wish.backend == backends.PADDLE:
        raise InputError(f"{wish.weights}: a network in ONNX is computed by onnxruntime, not by paddle")
    backends.resolve(backends.ONNXRUNTIME, wish.device, lambda _: None)
    from stdc.prediction.onnx_predictor import OnnxPredictor

    predictor = OnnxPredictor(wish.weights, wish.threads)
    mean, std = read_metadata(wish.weights, predictor.metadata)
    return Trained(predictor, mean, std, wish.stage.protocols[0] if wish.stage else FULL_SIZE)


def _open_inference(wish: Wish) -> Trained:
    if wish.backend == backends.ONNXRUNTIME:
        raise InputError(f"{wish.weights}: a network in Paddle's format is computed by paddle, not by onnxruntime")
    backends.refuse_device(f"{wish.weights}: a network in Paddle's inference format", wish.device)
    program, parameters = program_and_parameters(wish.weights)
    path = wish.weights.with_name(DESCRIPTION)
    if not path.is_file():
        raise InputError(
            f"{wish.weights}: no {DESCRIPTION} in {path.parent}; `export` writes it beside the network, with mean, std "
            "and classes"
        )
    description = read_json(path)
    mean, std = read_metadata(path, description if isinstance(description, dict) else {})
    digests = description.get("files")
    for file in (program, parameters):
        # Paddle's reader does not check what it reads, so a damaged file is found here.
        if not isinstance(digests, dict) or digests.get(file.name) != sha256_file(file):
            raise InputError(f"{file}: not the file that {path} describes; export the network again")
    devices.prepare(wish.device, wish.threads)
    devices.select(wish.device)
    predictor = InferencePredictor(program, parameters, wish.threads)
    return Trained(predictor, mean, std, wish.stage.protocols[0] if wish.stage else FULL_SIZE)


def read_metadata(path: Path, metadata: Mapping[str, Any]) -> Tuple[Triple, Triple]:
    """(mean, std) from what an exported network says of itself: texts in a file, or the description beside it.

    Raises:
        InputError: they are missing or make no sense, or the classes are others.
    """
    try:
        values = {
            name: json.loads(metadata[name]) if isinstance(metadata[name], str) else metadata[name]
            for name in ("mean", "std", "classes")
        }
        mean, std = _triple(values["mean"]), _triple(values["std"])
        train_ids = [one["train_id"] for one in values["classes"]]
        if train_ids != list(range(NUM_CLASSES)) or min(std) <= 0:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: its metadata do not hold mean, std and the {NUM_CLASSES} classes; export the network again"
        ) from None
    return mean, std


def _triple(value: Any) -> Triple:
    red, green, blue = (float(one) for one in value)
    return red, green, blue
