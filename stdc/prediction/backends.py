"""Which library computes a prediction: Paddle, on any device, or ONNX Runtime, on the CPU.

Published figures are compared with Paddle's. ONNX Runtime takes a third of the time on a CPU and gives another class at
about one pixel in two million, so results name the backend as a part of their protocol.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple, Optional

from stdc.errors import InputError
from stdc.machine import devices
from stdc.prediction.predictor import Predictor
from stdc.progress import Log
from stdc.recipe import Network

PADDLE, ONNXRUNTIME = "paddle", "onnxruntime"
_CPU = "cpu"


class Source(NamedTuple):
    """A trained network, and where it is to compute.

    Attributes:
        network: which one it is.
        weights: its parameters, `.pdparams` or `.safetensors`.
        device: kind of device.
        threads: CPU threads.
    """

    network: Network
    weights: Path
    device: str
    threads: int


def has_onnxruntime() -> bool:
    """Whether ONNX Runtime, and the package that writes its graphs, are installed here."""
    return all(importlib.util.find_spec(package) is not None for package in ("onnx", "onnxruntime"))


def resolve(wanted: str, device: str, log: Log) -> str:
    """The backend to take: the one that was asked for, or Paddle where it is not installed.

    Raises:
        InputError: ONNX Runtime was asked for together with a device other than the CPU.
    """
    if wanted != ONNXRUNTIME:
        return PADDLE
    refuse_device("backend: onnxruntime", device)
    if not has_onnxruntime():
        log(
            "onnxruntime is not installed in this Python, so paddle computes; "
            "it comes with requirements/paddle-cpu.lock (Python 3.11 and later)"
        )
        return PADDLE
    return ONNXRUNTIME


def refuse_device(what: str, device: str) -> None:
    """Raise where something that computes on the CPU alone is asked to compute on another device.

    Raises:
        InputError: names both.
    """
    if device != _CPU:
        raise InputError(
            f"{what} computes on the CPU, but the device is {device}; take device cpu, or weights and backend paddle"
        )


def other_than(backend: str, device: str) -> Optional[str]:
    """The backend to compare with: the other of the two; None where it is not installed or not for this device."""
    if backend == ONNXRUNTIME:
        return PADDLE
    return ONNXRUNTIME if device == _CPU and has_onnxruntime() else None


def full_name(backend: str, device: str) -> str:
    """With version and device, as results name it: "paddle 3.3.1 cpu"."""
    if backend == PADDLE:
        return devices.backend(device)
    import onnxruntime

    return f"{ONNXRUNTIME} {onnxruntime.__version__} {_CPU}"


def open_predictor(backend: str, source: Source) -> Predictor:
    """A network ready to predict.

    Raises:
        InputError: the weights are unreadable, or of another network.
    """
    from stdc.prediction.predict import PaddlePredictor, load_network

    # Read for ONNX Runtime too, so that weights that do not fit the network are refused in the same words.
    model = load_network(source.network, source.weights)
    if backend == PADDLE:
        return PaddlePredictor(model, source.device)
    from stdc.nn.state import state_arrays
    from stdc.prediction.onnx_graph import segmentor_graph
    from stdc.prediction.onnx_predictor import OnnxPredictor

    graph = segmentor_graph(state_arrays(model), source.network.pool_counts_padding, {})
    return OnnxPredictor(graph.SerializeToString(), source.threads)
