"""Dynamic loss scaling, so that small gradients survive float16.

Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2: the loss is multiplied by a factor before the
backward pass and the gradients divided by it after. A step whose gradients are not finite changes nothing and halves
the factor; after many good steps it is doubled. The factor is a power of two, so scaling itself rounds nothing.

Paddle's own `GradScaler` switches itself off on a CPU, where this is tested.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping

import paddle

#: Factor at the start, and good steps between doublings: those of Paddle's `GradScaler`.
START = 2.0**15
_GOOD_STEPS = 1000
_LEAST, _MOST = 1.0, 2.0**24


class LossScale:
    """The factor of the loss, and how many good steps there were since it changed.

    Attributes:
        factor: a power of two.
    """

    def __init__(self) -> None:
        self.factor = START
        self._good_steps = 0

    def unscale(self, parameters: Iterable[paddle.Tensor]) -> bool:
        """Divide the gradients by the factor, in place; whether all of them are finite. One transfer.

        Gradients of several ranks are summed before, so all ranks find the same.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # Counted as integers: Paddle 2.4 can neither stack booleans nor make one of a tensor with one value.
        finite = [paddle.isfinite(gradient).all().astype("int32").reshape([1]) for gradient in gradients]
        good = int(paddle.concat(finite).sum().numpy().ravel()[0]) == len(gradients)
        if good:
            with paddle.no_grad():
                for gradient in gradients:
                    gradient.scale_(1.0 / self.factor)
        self._adapt(good)
        return good

    def as_dict(self) -> Dict[str, Any]:
        """For a checkpoint."""
        return {"factor": self.factor, "good_steps": self._good_steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.factor, self._good_steps = float(state["factor"]), int(state["good_steps"])

    def _adapt(self, good: bool) -> None:
        if not good:
            self.factor, self._good_steps = max(self.factor / 2.0, _LEAST), 0
            return
        self._good_steps += 1
        if self._good_steps == _GOOD_STEPS:
            self.factor, self._good_steps = min(self.factor * 2.0, _MOST), 0
