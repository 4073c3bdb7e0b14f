"""An exponential moving average of the trained parameters, kept on the device.

Off in both published recipes. Where it is on, it is what is evaluated and what a run ends with.
"""

from __future__ import annotations

import contextlib
from typing import Dict, Iterator

import numpy as np
import paddle

from stdc.arrays import Arrays
from stdc.nn.state import state_arrays


class MovingAverage:
    """The average of a network's parameters. Running statistics of batch norms are averages already.

    Args:
        model: the network; its present parameters are the start.
        decay: weight of the average so far, 0 to below 1; less in the first steps, see `decay_at`.
    """

    def __init__(self, model: paddle.nn.Layer, decay: float) -> None:
        self.model, self.decay = model, decay
        self._average: Dict[str, paddle.Tensor] = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if not parameter.stop_gradient
        }

    def update(self, iteration: int) -> None:
        """Take in the parameters after the step `iteration`, 0 for the first."""
        decay = decay_at(self.decay, iteration)
        with paddle.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self._average:
                    self._average[name] = self._average[name] * decay + parameter * (1.0 - decay)

    def arrays(self) -> Arrays:
        """The average by parameter name, for a checkpoint."""
        return {name: np.array(tensor.numpy()) for name, tensor in self._average.items()}

    def restore(self, arrays: Arrays) -> None:
        """Go on from a checkpoint."""
        self._average = {name: paddle.to_tensor(arrays[name]) for name in self._average}

    def model_arrays(self) -> Arrays:
        """The network's arrays with the average in place of its parameters."""
        return {**state_arrays(self.model), **self.arrays()}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The network computes with the average meanwhile."""
        kept = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self.model.set_state_dict({**self.model.state_dict(), **self._average})
        try:
            yield
        finally:
            self.model.set_state_dict({**self.model.state_dict(), **kept})


def decay_at(decay: float, iteration: int) -> float:
    """The decay of one step: the average must forget the random weights that it began with.

    Source: TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    return min(decay, (1.0 + iteration) / (10.0 + iteration))
