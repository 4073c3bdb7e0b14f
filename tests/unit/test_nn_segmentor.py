"""The network's shape and behavior; that its numbers are right is the business of tests/parity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc.nn.backbone import CHANNELS, STDCNet  # noqa: E402
from stdc.nn.segmentor import (  # noqa: E402
    UNUSED_HEADS,
    Segmentor,
    SegmentorOutputs,
    build_segmentor,
    upsample_by_products,
)


@pytest.fixture(scope="module")
def segmentor() -> Segmentor:
    paddle.seed(3)
    return build_segmentor("stdc1")


@pytest.mark.parametrize(("height", "width"), [(64, 96), (67, 97), (33, 31), (5, 130)])
def test_training_gives_three_full_size_logits_and_details_at_an_eighth(
    segmentor: Segmentor, height: int, width: int
) -> None:
    segmentor.train()
    outputs = segmentor(paddle.zeros([2, 3, height, width]))
    assert isinstance(outputs, SegmentorOutputs)
    for logits in (outputs.logits, outputs.logits8, outputs.logits16):
        assert list(logits.shape) == [2, 19, height, width]
    assert list(outputs.detail_logits.shape) == [2, 1, -(-height // 8), -(-width // 8)]


@pytest.mark.parametrize(("height", "width"), [(64, 96), (67, 97), (1, 1)])
def test_evaluation_gives_the_main_logits_alone(segmentor: Segmentor, height: int, width: int) -> None:
    segmentor.eval()
    assert list(segmentor(paddle.zeros([1, 3, height, width])).shape) == [1, 19, height, width]


def test_evaluation_does_not_depend_on_the_other_images_of_a_batch(segmentor: Segmentor) -> None:
    segmentor.eval()
    images = paddle.randn([3, 3, 40, 56])
    together = segmentor(images).numpy()
    alone = np.concatenate([segmentor(images[index : index + 1]).numpy() for index in range(3)])
    # Equal up to how a matrix product of another size is summed.
    np.testing.assert_allclose(together, alone, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize(("name", "modules"), [("stdc1", 8), ("stdc2", 14)])
def test_backbone_has_the_depth_and_the_strides_of_the_paper(name: str, modules: int) -> None:
    backbone = STDCNet(name)
    assert len(backbone.features) == modules
    features = backbone(paddle.zeros([1, 3, 64, 128]))
    sizes = [tuple(feature.shape[1:]) for feature in features]
    assert sizes == [(channels, 64 // scale, 128 // scale) for channels, scale in zip(CHANNELS, (2, 4, 8, 16, 32))]


@pytest.mark.parametrize(
    "sizes", [((8, 16), (64, 128)), ((5, 9), (33, 67)), ((1, 3), (8, 24)), ((2, 2), (2, 1))], ids=str
)
def test_products_upsample_as_the_bilinear_kernel_but_for_rounding(sizes: Any) -> None:
    source, target = sizes
    generator = np.random.default_rng(0)
    logits = paddle.to_tensor(generator.standard_normal((2, 19, *source)).astype(np.float32))
    weight = paddle.to_tensor(generator.standard_normal((2, 19, *target)).astype(np.float32))
    found = []
    for upsample in (
        upsample_by_products,
        lambda x, size: paddle.nn.functional.interpolate(x, size, mode="bilinear", align_corners=True),
    ):
        given = logits.clone().detach()
        given.stop_gradient = False
        result = upsample(given, list(target))
        (result * weight).sum().backward()
        found.append((result.numpy(), given.grad.numpy()))
    # Sums of four products, and for the gradient of some hundreds, in another order.
    for ours, theirs in zip(*found):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max() * np.sqrt(weight[0, 0].size))


def test_upsampling_by_products_is_for_training_alone(segmentor: Segmentor) -> None:
    other = build_segmentor("stdc1", upsample_by_products=True)
    other.set_state_dict(segmentor.state_dict())
    images = paddle.randn([2, 3, 64, 96])
    for network in (segmentor, other):
        network.eval()
    assert np.array_equal(segmentor(images).numpy(), other(images).numpy())
    # Another order of sums shows in training, or the switch would do nothing.
    other.train()
    logits = other(images).logits.numpy()
    other.upsample_by_products = False
    expected = other(images).logits.numpy()
    assert not np.array_equal(logits, expected)
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_number_of_classes_reaches_the_three_heads_only() -> None:
    outputs = build_segmentor("stdc1", num_classes=7)(paddle.zeros([2, 3, 32, 32]))
    assert [output.shape[1] for output in outputs] == [7, 7, 7, 1]


def test_heads_that_never_run_are_built_only_when_asked_for() -> None:
    usual = set(build_segmentor("stdc1").state_dict())
    whole = set(build_segmentor("stdc1", unused_heads=True).state_dict())
    assert {key.split(".")[0] for key in whole - usual} == set(UNUSED_HEADS)
    assert usual < whole


def test_every_parameter_of_the_usual_network_gets_a_gradient(segmentor: Segmentor) -> None:
    segmentor.train()
    sum(output.mean() for output in segmentor(paddle.randn([2, 3, 64, 64]))).backward()
    missing = [
        name
        for name, parameter in segmentor.named_parameters()
        if not parameter.stop_gradient and parameter.grad is None
    ]
    segmentor.clear_gradients()
    assert missing == []


def test_a_step_repeated_gives_the_same_bits() -> None:
    def gradients() -> np.ndarray:
        paddle.seed(11)
        model = build_segmentor("stdc1")
        sum((output * output).mean() for output in model(paddle.randn([2, 3, 64, 64]))).backward()
        parameters = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
        return np.concatenate([parameter.grad.numpy().ravel() for parameter in parameters])

    np.testing.assert_array_equal(gradients(), gradients())


def test_unknown_backbone_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'stdc3' is not one of stdc1, stdc2"):
        build_segmentor("stdc3")
