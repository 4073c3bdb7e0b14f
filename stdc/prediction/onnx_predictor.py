"""Prediction by ONNX Runtime on the CPU: the same weights, batch norms folded, in about a third of Paddle's time."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence, Tuple, Union

import numpy as np

from stdc.errors import InputError
from stdc.prediction.onnx_graph import IMAGE, LOGITS
from stdc.prediction.predictor import Predictor

#: Rows whose scores are compared at a time: few enough that they stay in the processor's cache.
_ROWS = 32


class OnnxPredictor(Predictor):
    """A graph with the input `image` and the output `logits`, see `stdc.prediction.onnx_graph`.

    Args:
        model: the graph's bytes, or its file.
        threads: CPU threads.
    Raises:
        InputError: the graph is unreadable or of another kind.
        ImportError: ONNX Runtime is not installed, see `stdc.prediction.backends.has_onnxruntime`.
    """

    def __init__(self, model: Union[bytes, Path], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads would otherwise burn the cores that decode the next images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS_ONLY
        name = str(model) if isinstance(model, Path) else "graph"
        if isinstance(model, Path) and not model.is_file():
            raise InputError(f"{model}: no such file")
        content = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        # The classes of its errors are defined in its compiled part; a damaged file can raise any of them.
        except Exception as error:
            raise InputError(f"{name}: ONNX Runtime cannot read it ({_first_line(error)})") from None
        inputs = [item.name for item in self._session.get_inputs()]
        outputs = [item.name for item in self._session.get_outputs()]
        if inputs != [IMAGE] or LOGITS not in outputs:
            raise InputError(
                f"{name}: inputs {', '.join(inputs)} and outputs {', '.join(outputs)}; expected a network made by "
                f"`export`, from {IMAGE} to {LOGITS}"
            )
        self.backend = f"onnxruntime {onnxruntime.__version__} cpu"

    @property
    def metadata(self) -> Dict[str, str]:
        """The texts stored in the file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def load(self, images: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(images, np.float32)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        (logits,) = self._session.run([LOGITS], {IMAGE: np.ascontiguousarray(pixels)})
        return np.asarray(logits)

    def resize(self, tensor: np.ndarray, size: Sequence[int], align_corners: bool) -> np.ndarray:
        for axis, length in zip((2, 3), size):
            below, above, share = _places(tensor.shape[axis], length, align_corners)
            share = share[:, None] if axis == 2 else share
            tensor = tensor.take(below, axis) * (1 - share) + tensor.take(above, axis) * share
        return tensor

    def mirror(self, tensor: np.ndarray) -> np.ndarray:
        return tensor[..., ::-1]

    def largest(self, scores: np.ndarray) -> np.ndarray:
        return np.stack([largest_class(one) for one in scores])


#: ONNX Runtime's levels go from 0 (everything) to 4 (fatal).
_ERRORS_ONLY = 3


def largest_class(scores: np.ndarray) -> np.ndarray:
    """The first class of the largest score: (C, H, W), at most 256 classes, to (H, W), uint8.

    Equal to `scores.argmax(axis=0)` for finite scores, and three times as fast.
    """
    classes, height, width = scores.shape
    found = np.zeros((height, width), np.uint8)
    for top in range(0, height, _ROWS):
        band = slice(top, top + _ROWS)
        best = scores[0, band].copy()
        for number in range(1, classes):
            candidate = scores[number, band]
            np.putmask(found[band], candidate > best, number)
            np.maximum(best, candidate, out=best)
    return found


def _places(source: int, target: int, align_corners: bool) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `target` positions its two neighbors among `source`, and the share of the second, float32."""
    if align_corners:
        place = np.arange(target) * ((source - 1) / max(target - 1, 1))
    else:
        place = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    below = np.minimum(np.floor(place).astype(np.int64), source - 1)
    return below, np.minimum(below + 1, source - 1), (place - below).astype(np.float32)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
