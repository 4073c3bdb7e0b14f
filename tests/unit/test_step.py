"""One optimizer step: parts of a batch, transfers from the device, and what is read one step late."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc.nn.losses import segmentation_loss  # noqa: E402
from stdc.nn.segmentor import Segmentor, build_segmentor  # noqa: E402
from stdc.recipe import TrainRecipe, resolve  # noqa: E402
from stdc.training.step import Step  # noqa: E402

TRAIN = {"preset": "paddleseg", "iterations": 10, "global_batch": 4, "crop_height": 64, "crop_width": 64}


def recipe(**changes: Any) -> TrainRecipe:
    return resolve({**TRAIN, "ohem_min_kept": 500, **changes})


@pytest.fixture()
def batch() -> Tuple[Any, Any]:
    random = np.random.RandomState(0)
    images = random.uniform(-1, 1, (4, 3, 64, 64)).astype(np.float32)
    labels = random.randint(0, 19, (4, 64, 64)).astype(np.uint8)
    labels[:, :8] = 255
    return paddle.to_tensor(images), paddle.to_tensor(labels).astype("int64")


def network() -> Segmentor:
    paddle.seed(3)
    return build_segmentor("stdc1")


def gradients(model: Segmentor) -> Dict[str, np.ndarray]:
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_parts_of_a_batch_give_the_mean_of_ranks_with_local_batch_norm_bit_for_bit(batch: Tuple[Any, Any]) -> None:
    images, labels = batch
    alone: List[Dict[str, np.ndarray]] = []
    for part in (slice(0, 2), slice(2, 4)):
        # A rank of its own: the same weights, its own batch norm, its own mining.
        model = network()
        model.train()
        segmentation_loss(model(images[part]), labels[part], recipe().losses)[0].backward()
        alone.append(gradients(model))
    model = network()
    step = Step(model, recipe(), seed=0, micro_batch=2)
    step.optimizer.clear_grad = lambda: None
    model.train()
    step(images, labels, 0, False)
    found = gradients(model)
    assert set(found) == set(alone[0]) and len(found) > 100
    for name, gradient in found.items():
        # Two is a power of two, so that halving before or after the sum rounds alike.
        assert np.array_equal(gradient, (alone[0][name] + alone[1][name]) / 2), name


def test_unequal_parts_count_by_their_images(batch: Tuple[Any, Any]) -> None:
    """Three images in parts of one and two: a third of the one gradient and two thirds of the other."""
    images, labels = (value[:3] for value in batch)
    alone: List[Dict[str, np.ndarray]] = []
    losses = []
    for part in (slice(0, 1), slice(1, 3)):
        model = network()
        model.train()
        loss, _ = segmentation_loss(model(images[part]), labels[part], recipe().losses)
        loss.backward()
        losses.append(float(loss))
        alone.append(gradients(model))
    model = network()
    step = Step(model, recipe(global_batch=3), seed=0, micro_batch=2)
    step.optimizer.clear_grad = lambda: None
    model.train()
    means, _ = step(images, labels, 0, False).read()
    assert means["loss"] == pytest.approx((losses[0] + 2 * losses[1]) / 3, rel=1e-6)
    for name, gradient in gradients(model).items():
        expected = (alone[0][name].astype(np.float64) + 2.0 * alone[1][name]) / 3
        # A third is no power of two, so the backward passes round in other places. A bias before a batch norm has no
        # gradient but what is left of rounding, some 1e-8.
        scale = np.abs(alone[0][name]).max() + np.abs(alone[1][name]).max()
        assert np.abs(gradient - expected).max() <= 1e-4 * scale + 1e-6, name


def test_whole_batch_in_one_part_is_the_plain_step(batch: Tuple[Any, Any]) -> None:
    values = []
    for micro_batch in (4, 4096):
        model = network()
        model.train()
        step = Step(model, recipe(), seed=0, micro_batch=micro_batch)
        pending = step(*batch, 0, False)
        values.append((pending.read(), [value.numpy().tobytes() for value in model.parameters()]))
    assert values[0] == values[1]


@pytest.fixture()
def transfers(monkeypatch: pytest.MonkeyPatch) -> Iterator[List[str]]:
    """Names of the calls that bring a tensor from the device to the host."""
    counted: List[str] = []
    for name in ("numpy", "item", "tolist", "__array__", "__int__", "__float__", "__bool__", "__index__"):
        original = getattr(paddle.Tensor, name, None)
        if original is None:
            continue

        def counting(self: Any, *arguments: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            before = len(counted)
            counted.append(_name)
            result = _original(self, *arguments, **options)
            # One call may be made of another; it is one transfer.
            del counted[before + 1 :]
            return result

        monkeypatch.setattr(paddle.Tensor, name, counting)
    yield counted


def test_a_step_sends_nothing_to_the_device_while_it_runs(
    batch: Tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`to_tensor` waits until the device has done all it was asked for. Constants are there from the first step."""
    model = network()
    model.train()
    step = Step(model, recipe(), seed=0, micro_batch=4)
    step(*batch, 0, False)
    sent: List[Any] = []
    original = paddle.to_tensor
    monkeypatch.setattr(paddle, "to_tensor", lambda *values, **options: sent.append(1) or original(*values, **options))
    step(*batch, 1, False)
    assert sent == []


@pytest.mark.parametrize("preset", ["paddleseg", "authors"])
@pytest.mark.parametrize("min_kept", [1, 16000], ids=["many hard pixels", "few hard pixels"])
def test_a_step_reads_from_the_device_once_for_its_mining_and_for_the_losses_of_the_step_before(
    batch: Tuple[Any, Any], transfers: List[str], preset: str, min_kept: int
) -> None:
    model = network()
    model.train()
    changes = {"preset": preset, "ohem_min_kept": min_kept, "warmup_iterations": 0, "warmup_start_lr": 0.0}
    step = Step(model, recipe(**changes), seed=0, micro_batch=4)
    first = step(*batch, 0, True)
    transfers.clear()
    second = step(*batch, 1, False)
    # The counts of hard pixels of the three heads, which decide what is computed next, and what the first step left.
    losses, stopping = first.read()
    assert transfers == ["numpy"]
    assert stopping and {"loss", "ohem", "detail_bce", "edge_share"} <= set(losses)
    assert losses["loss"] == float(first.values[sorted(losses).index("loss")])
    transfers.clear()
    # The last step of an interval has none behind it.
    second.read()
    third = step(*batch, 2, False)
    assert transfers == ["numpy", "numpy"]
    assert not second.read()[1] and third.read()[0]["loss"] != losses["loss"]


def test_parts_of_a_step_read_once_each(batch: Tuple[Any, Any], transfers: List[str]) -> None:
    model = network()
    model.train()
    step = Step(model, recipe(), seed=0, micro_batch=2)
    first = step(*batch, 0, False)
    transfers.clear()
    step(*batch, 1, False)
    first.read()
    assert transfers == ["numpy", "numpy"]
