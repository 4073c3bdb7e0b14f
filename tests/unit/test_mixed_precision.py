"""Loss scaling, mixed precision and the moving average, as far as a CPU can show them.

On a CPU Paddle's `auto_cast` does nothing: that operations really compute in 16 bits is shown on the double of a device
(tests/devices) and on a device.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc.errors import InputError  # noqa: E402
from stdc.machine import devices  # noqa: E402
from stdc.nn.segmentor import Segmentor, build_segmentor  # noqa: E402
from stdc.nn.state import state_arrays  # noqa: E402
from stdc.recipe import resolve  # noqa: E402
from stdc.training.loss_scale import START, LossScale  # noqa: E402
from stdc.training.moving_average import MovingAverage, decay_at  # noqa: E402
from stdc.training.step import Step  # noqa: E402

TRAIN = {"preset": "paddleseg", "iterations": 10, "global_batch": 2, "crop_height": 64, "crop_width": 64}


def network() -> Segmentor:
    paddle.seed(3)
    model = build_segmentor("stdc1")
    model.train()
    return model


def batch() -> Tuple[Any, Any]:
    random = np.random.RandomState(0)
    images = random.uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)
    return paddle.to_tensor(images), paddle.to_tensor(random.randint(0, 19, (2, 64, 64)))


def after_steps(model: Segmentor, steps: int, **train: Any) -> Tuple[Step, Dict[str, np.ndarray]]:
    step = Step(model, resolve({**TRAIN, **train}), seed=0, micro_batch=2)
    for iteration in range(steps):
        step(*batch(), iteration, False)
    return step, state_arrays(model)


def test_scaling_by_a_power_of_two_and_back_changes_no_bit() -> None:
    """Where the kernels compute in float32 all the same, as on a CPU."""
    _, plain = after_steps(network(), 2)
    step, scaled = after_steps(network(), 2, amp="float16")
    assert step.loss_scale is not None and step.loss_scale.factor == START
    assert all(np.array_equal(plain[name], scaled[name]) for name in plain)


def test_gradient_that_overflows_changes_no_weight_and_halves_the_factor() -> None:
    model = network()
    step, _ = after_steps(model, 1, amp="float16")
    # Running statistics are parameters to Paddle, without a gradient; the forward pass alone moves them.
    trained = {name: parameter for name, parameter in model.named_parameters() if not parameter.stop_gradient}
    before = {name: parameter.numpy() for name, parameter in trained.items()}
    assert step.loss_scale is not None
    step.loss_scale.factor = float("inf")
    step(*batch(), 1, False)
    assert all(np.array_equal(parameter.numpy(), before[name]) for name, parameter in trained.items())


def test_factor_is_halved_by_an_overflow_and_doubled_after_many_good_steps() -> None:
    class Parameter:
        def __init__(self, gradient: float) -> None:
            self.grad = paddle.to_tensor([gradient, 1.0])

    scale = LossScale()
    assert not scale.unscale([Parameter(1.0), Parameter(float("inf"))])
    assert scale.factor == START / 2
    parameter = Parameter(START)
    assert scale.unscale([parameter])
    assert parameter.grad.numpy().tolist() == [2.0, 2.0 / START]
    for _ in range(999):
        assert scale.unscale([Parameter(1.0)])
    assert scale.factor == START and scale.as_dict() == {"factor": START, "good_steps": 0}


def test_resumed_factor_goes_on_where_it_was() -> None:
    scale, other = LossScale(), LossScale()
    scale._adapt(False)
    scale._adapt(True)
    other.restore(scale.as_dict())
    assert other.as_dict() == {"factor": START / 2, "good_steps": 1}


def test_training_survives_convolutions_that_round_to_bfloat16() -> None:
    """A stand-in for bfloat16 kernels: each convolution's result is rounded as they would round it."""
    if paddle.__version__.startswith("2.4"):
        pytest.skip("NOT ROUNDED: Paddle 2.4 has no cast to bfloat16 on a CPU")

    def rounded(_: Any, __: Any, output: Any) -> Any:
        return output + (output.astype("bfloat16").astype("float32") - output).detach()

    losses = []
    for rounding in (False, True):
        model = network()
        if rounding:
            for layer in model.sublayers():
                if isinstance(layer, paddle.nn.Conv2D):
                    layer.register_forward_post_hook(rounded)
        step = Step(model, resolve(TRAIN), seed=0, micro_batch=2)
        losses.append([step(*batch(), iteration, False).read()[0]["loss"] for iteration in range(4)])
    plain, low = losses
    assert plain != low
    # bfloat16 keeps 8 bits: 0.4 % per operation.
    assert np.allclose(plain, low, rtol=0.05)


def test_mixed_precision_on_a_cpu_is_refused_instead_of_left_out_silently() -> None:
    with pytest.raises(InputError, match=r"^train.amp: bfloat16"):
        devices.check_amp("cpu", "bfloat16")
    devices.check_amp("cpu", "none")


# ---- moving average


def test_average_equals_a_loop_in_numpy() -> None:
    model = network()
    step = Step(model, resolve({**TRAIN, "ema_decay": 0.9}), seed=0, micro_batch=2)
    name = (
        "conv_out.conv_out.weight"
        if "conv_out.conv_out.weight" in model.state_dict()
        else sorted(key for key, value in model.named_parameters())[0]
    )
    expected = model.state_dict()[name].numpy()
    for iteration in range(3):
        step(*batch(), iteration, False)
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        expected = expected * np.float32(decay) + model.state_dict()[name].numpy() * np.float32(1 - decay)
    assert step.average is not None
    np.testing.assert_allclose(step.average.arrays()[name], expected, rtol=1e-5, atol=1e-8)


def test_network_computes_with_the_average_meanwhile_and_with_its_own_weights_after() -> None:
    model = network()
    before = state_arrays(model)
    average = MovingAverage(model, 0.5)
    for parameter in model.parameters():
        parameter.set_value(parameter + 1.0)
    own = state_arrays(model)
    with average.in_place():
        inside = state_arrays(model)
    trained = [name for name, parameter in model.named_parameters() if not parameter.stop_gradient]
    assert all(np.array_equal(inside[name], before[name]) for name in trained)
    assert all(np.array_equal(array, own[name]) for name, array in state_arrays(model).items())


def test_average_forgets_the_weights_it_began_with() -> None:
    assert decay_at(0.9999, 0) == 0.1
    assert decay_at(0.9999, 10**6) == 0.9999
