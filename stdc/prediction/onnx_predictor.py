"""Prediction by ONNX Runtime on the CPU: the same weights, batch norms folded, in about a third of Paddle's time."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Union

import numpy as np

from stdc.errors import InputError
from stdc.prediction.array_predictor import ArrayPredictor
from stdc.prediction.onnx_graph import IMAGE, LOGITS


class OnnxPredictor(ArrayPredictor):
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
        # Without this, idle threads spin and take the cores that decode the next images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS_ONLY
        name = str(model) if isinstance(model, Path) else "graph"
        if isinstance(model, Path) and not model.is_file():
            raise InputError(f"{model}: {'a folder; give the file in it' if model.is_dir() else 'no such file'}")
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

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        (logits,) = self._session.run([LOGITS], {IMAGE: np.ascontiguousarray(pixels)})
        return np.asarray(logits)


#: ONNX Runtime's levels go from 0 (everything) to 4 (fatal).
_ERRORS_ONLY = 3


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
