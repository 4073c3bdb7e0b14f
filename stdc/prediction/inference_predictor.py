"""Prediction by Paddle's inference library on the CPU, from a network in its format: a program and its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple

import numpy as np

from stdc.errors import InputError, RunError
from stdc.prediction.array_predictor import ArrayPredictor

#: Endings of a program: Paddle 3 writes JSON, Paddle 2 a format of its own.
PROGRAM_SUFFIXES = (".json", ".pdmodel")
PARAMETERS_SUFFIX = ".pdiparams"
#: Describes the exported network, in a file beside its own two, which hold no text of ours.
DESCRIPTION = "export.json"


def program_and_parameters(path: Path) -> Tuple[Path, Path]:
    """The two files of a network, from the name of either.

    Raises:
        InputError: one of them is not there.
    """
    parameters = path.with_suffix(PARAMETERS_SUFFIX)
    programs = [path] if path.suffix in PROGRAM_SUFFIXES else [path.with_suffix(one) for one in PROGRAM_SUFFIXES]
    program = next((one for one in programs if one.is_file()), None)
    if program is None or not parameters.is_file():
        missing = parameters.name if program else " or ".join(one.name for one in programs)
        raise InputError(
            f"{path}: no {missing} in {path.parent}; a network in Paddle's inference format is two files, "
            f"{path.stem}{PROGRAM_SUFFIXES[0]} (or {PROGRAM_SUFFIXES[1]}) and {parameters.name}"
        )
    return program, parameters


class InferencePredictor(ArrayPredictor):
    """A network from (N, 3, H, W) to logits (N, C, H, W), float32.

    Args:
        program, parameters: its two files.
        threads: CPU threads.
    Raises:
        InputError: the library cannot read the files, or the network is of another kind.
    """

    def __init__(self, program: Path, parameters: Path, threads: int) -> None:
        import paddle
        from paddle import inference

        settings = inference.Config(str(program), str(parameters))
        settings.disable_gpu()
        settings.disable_glog_info()
        # With oneDNN, on by default since Paddle 3, that of 3.3 stops at pooling; older versions have no switch.
        for switch in ("disable_onednn", "disable_mkldnn"):
            getattr(settings, switch, lambda: None)()
        settings.set_cpu_math_library_num_threads(threads)
        try:
            self._network = inference.create_predictor(settings)
        # Paddle's inference raises errors whose classes exist in its compiled part only, so they cannot be named here.
        except Exception as error:
            raise InputError(f"{program}: Paddle {paddle.__version__} cannot read it ({last_line(error)})") from None
        inputs, outputs = self._network.get_input_names(), self._network.get_output_names()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"{program}: {len(inputs)} inputs and {len(outputs)} outputs; expected a network made by `export`, "
                "with one of each"
            )
        self._source = self._network.get_input_handle(inputs[0])
        self._result = self._network.get_output_handle(outputs[0])
        self._name = program
        self.backend = f"paddle {paddle.__version__} inference cpu"

    def logits(self, pixels: Any) -> np.ndarray:
        self._source.copy_from_cpu(np.ascontiguousarray(pixels))
        try:
            self._network.run()
        except Exception as error:
            raise RunError(f"{self._name}: Paddle's inference library stopped ({last_line(error)})") from None
        return np.asarray(self._result.copy_to_cpu())


def last_line(error: Exception) -> str:
    """What Paddle says after its listing of C++ calls."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "Error" in line]
    return (said or lines or [type(error).__name__])[-1][:300]
