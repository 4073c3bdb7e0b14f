"""Counts of parameters and operations against published and independently measured figures."""

from __future__ import annotations

import pytest

paddle = pytest.importorskip("paddle")

from stdc.nn.cost import count_classifier, count_forward, count_layers  # noqa: E402
from stdc.nn.segmentor import Segmentor, build_segmentor  # noqa: E402
from stdc.published.reference import load_reference  # noqa: E402

#: Millions of numbers in the backbone, at inference, in training, in PaddleSeg's file; GMACs at the published sizes.
#: Measured on PaddleSeg 2.7's own network.
FIGURES = {
    "stdc1": ((5.327, 8.289, 8.587, 8.939), (16.86, 37.94, 67.45)),
    "stdc2": ((9.364, 12.325, 12.624, 12.975), (23.46, 52.78, 93.83)),
}
SIZES = ((512, 1024), (768, 1536), (1024, 2048))


@pytest.fixture(scope="module", params=sorted(FIGURES))
def segmentor(request: pytest.FixtureRequest) -> tuple[str, Segmentor]:
    return request.param, build_segmentor(request.param)


@pytest.mark.parametrize("name", ["stdc1", "stdc2"])
def test_imagenet_networks_have_the_published_parameters_and_operations(name: str) -> None:
    counted, published = count_classifier(name), load_reference().backbones[name]
    assert round(counted.learned / 1e6, 2) == published.parameters_millions
    assert round(counted.operations / 1e6) == published.megaflops
    assert counted.macs < counted.operations


def test_segmentors_have_the_known_parameters_and_multiply_accumulates(segmentor: tuple[str, Segmentor]) -> None:
    name, model = segmentor
    (backbone, inference, training, _), gigas = FIGURES[name]
    assert count_forward(model.cp.backbone, 64, 64).stored / 1e6 == pytest.approx(backbone, abs=5e-4)
    assert count_layers(model)[1] / 1e6 == pytest.approx(training, abs=5e-4)
    for size, giga in zip(SIZES, gigas):
        counted = count_forward(model, *size)
        assert counted.stored / 1e6 == pytest.approx(inference, abs=5e-4)
        assert counted.macs / 1e9 == pytest.approx(giga, abs=5e-3)


def test_file_of_paddleseg_has_three_heads_more() -> None:
    assert count_layers(build_segmentor("stdc1", unused_heads=True))[1] / 1e6 == pytest.approx(8.939, abs=5e-4)


def test_count_of_one_convolution_by_hand(segmentor: tuple[str, Segmentor]) -> None:
    first = segmentor[1].cp.backbone.features[0]
    counted = count_forward(first, 32, 64)
    # 3 x 3 x 3 weights for each of 32 channels at 16 x 32 places; batch norm 2 and ReLU 1 per value.
    assert counted.macs == 27 * 32 * 16 * 32
    assert counted.operations - counted.macs == 3 * 32 * 16 * 32
    assert (counted.learned, counted.stored) == (27 * 32 + 64, 27 * 32 + 128)


def test_counting_leaves_the_network_as_it_was(segmentor: tuple[str, Segmentor]) -> None:
    model = segmentor[1]
    model.train()
    before = model.cp.backbone.features[0].bn._mean.numpy().copy()
    count_forward(model, 64, 64)
    assert model.training
    assert (model.cp.backbone.features[0].bn._mean.numpy() == before).all()
    assert not any(layer._forward_post_hooks for layer in model.sublayers())


def test_sizes_that_cannot_be_scaled_are_refused(segmentor: tuple[str, Segmentor]) -> None:
    with pytest.raises(ValueError, match="size 500x1024: multiples of 32"):
        count_forward(segmentor[1], 500, 1024)
