"""SGD by groups: who decays, who learns faster, and one step worked out by hand."""

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc import recipe  # noqa: E402
from stdc.errors import InputError  # noqa: E402
from stdc.nn.segmentor import build_segmentor  # noqa: E402
from stdc.training.optimizer import build_optimizer, optimizer_arrays, restore_optimizer  # noqa: E402

PLAIN = {"iterations": 3000, "global_batch": 2, "crop_height": 64, "crop_width": 64}


@pytest.fixture()
def model():
    # As in a process of its own: Paddle's counters of names start anew.
    with paddle.utils.unique_name.guard():
        yield build_segmentor("stdc1")


def trained(model):
    """Parameters by name, without the running statistics that Paddle counts among them."""
    return {name: parameter for name, parameter in model.named_parameters() if not parameter.stop_gradient}


def one_step(model, preset, rate=0.5):
    """{name: (value before, gradient, value after)} of a step with random gradients."""
    optimizer = build_optimizer(model, recipe.resolve({**PLAIN, "preset": preset}).optimizer)
    generator = np.random.RandomState(0)
    before, gradients = {}, {}
    for name, parameter in trained(model).items():
        before[name] = parameter.numpy().copy()
        gradients[name] = generator.standard_normal(before[name].shape).astype(np.float32)
        # The gradient of sum(w * g) is g.
    loss = sum((parameter * paddle.to_tensor(gradients[name])).sum() for name, parameter in trained(model).items())
    loss.backward()
    optimizer.set_lr(rate)
    optimizer.step()
    optimizer.clear_grad()
    after = {name: parameter.numpy() for name, parameter in trained(model).items()}
    return optimizer, {name: (before[name], gradients[name], after[name]) for name in before}


def factor_and_decay(before, gradient, after, rate):
    """Learning-rate factor and weight decay of a first step, from w' = w - rate * factor * (g + decay * w)."""
    step = (before.astype(np.float64) - after) / rate
    design = np.stack([gradient.ravel().astype(np.float64), before.ravel().astype(np.float64)], axis=1)
    factor, weighted = np.linalg.lstsq(design, step.ravel(), rcond=None)[0]
    return factor, weighted / factor


def test_paddleseg_decays_everything_alike_and_no_layer_is_faster(model):
    _, steps = one_step(model, "paddleseg")
    for name in ("cp.backbone.features.0.conv.weight", "ffm.convblk._conv.weight", "conv_out.conv._conv.weight"):
        if name in steps:
            factor, decay = factor_and_decay(*steps[name], 0.5)
            assert factor == pytest.approx(1.0, abs=1e-4) and decay == pytest.approx(4e-5, abs=2e-5), name
    norms = [name for name in steps if name.endswith("bn.weight")]
    before, gradient, after = steps[norms[0]]
    assert np.allclose(after, before - 0.5 * (gradient + 4e-5 * before), atol=1e-6)


def test_authors_train_heads_ten_times_faster_and_spare_norms_and_biases(model):
    _, steps = one_step(model, "authors", rate=0.01)
    heads = ("ffm", "conv_out", "conv_out8", "conv_out16", "conv_out_sp8")
    seen = {"fast": 0, "slow": 0, "spared": 0, "decayed": 0}
    for name, (before, gradient, after) in steps.items():
        factor = 10.0 if name.split(".")[0] in heads else 1.0
        # Convolutions have four dimensions; norms and biases have one.
        decay = 5e-4 if before.ndim > 1 else 0.0
        expected = before.astype(np.float64) - 0.01 * factor * (gradient + decay * before.astype(np.float64))
        assert np.allclose(after, expected, rtol=2e-6, atol=2e-6), name
        seen["fast" if factor > 1 else "slow"] += 1
        seen["spared" if decay == 0 else "decayed"] += 1
    assert min(seen.values()) > 5, seen


def test_state_comes_back_under_structured_names(model):
    optimizer, _ = one_step(model, "paddleseg")
    saved = optimizer_arrays(optimizer, model)
    assert set(saved) == {f"{name}.velocity" for name in trained(model)}
    with paddle.utils.unique_name.guard():
        twin = build_segmentor("stdc1")
        other = build_optimizer(twin, recipe.resolve({**PLAIN, "preset": "paddleseg"}).optimizer)
        restore_optimizer(other, twin, saved)
        # Accumulators are filled at the first step, so take one with no gradient but the decay's.
        sum((parameter * 0.0).sum() for parameter in trained(twin).values()).backward()
        other.set_lr(0.0)
        other.step()
        again = optimizer_arrays(other, twin)
    for name, parameter in trained(twin).items():
        expected = 0.9 * saved[f"{name}.velocity"] + 4e-5 * parameter.numpy()
        assert np.allclose(again[f"{name}.velocity"], expected, atol=1e-6), name


def test_state_that_would_be_saved_without_momentum_is_an_error(model):
    optimizer = build_optimizer(model, recipe.resolve({**PLAIN, "preset": "paddleseg"}).optimizer)
    with pytest.raises(RuntimeError, match="no accumulator of"):
        optimizer_arrays(optimizer, model)


def test_state_of_another_network_is_refused(model):
    optimizer, _ = one_step(model, "paddleseg")
    with pytest.raises(InputError, match="optimizer state of gone, which this network does not have"):
        restore_optimizer(optimizer, model, {"gone.velocity": np.zeros(3, np.float32)})


@pytest.mark.parametrize("preset", ["paddleseg", "authors"])
def test_one_kernel_for_many_parameters_gives_the_bytes_of_single_updates(preset, monkeypatch):
    results = []
    for fused in (True, False):
        monkeypatch.setattr("stdc.training.optimizer._FUSED", fused)
        with paddle.utils.unique_name.guard():
            paddle.seed(1)
            network = build_segmentor("stdc1")
            optimizer, steps = one_step(network, preset)
            arrays = optimizer_arrays(optimizer, network)
        results.append(({name: after for name, (_, _, after) in steps.items()}, arrays))
    (weights, state), (single_weights, single_state) = results
    assert set(state) == set(single_state)
    assert all(np.array_equal(weights[name], single_weights[name]) for name in weights)
    assert all(np.array_equal(state[name], single_state[name]) for name in state)
