"""Our network and losses against a torch statement of the authors' code (see oracle.py and make_arrays.py).

PaddleSeg renamed parameters, added biases and changed the pooling at image borders; here the way back is tested: the
authors' checkpoint, converted, gives the authors' logits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "network")]

import authors_names  # noqa: E402
import seeded  # noqa: E402

paddle = pytest.importorskip("paddle")

from stdc.nn.losses import (  # noqa: E402
    detail_loss,
    detail_target,
    ohem_cross_entropy,
    segmentation_loss,
)
from stdc.nn.segmentor import Segmentor, build_segmentor  # noqa: E402
from stdc.nn.state import load_backbone, load_segmentor, state_arrays  # noqa: E402
from stdc.recipe import Losses, resolve  # noqa: E402
from stdc.training import schedule  # noqa: E402
from stdc.weights.torch_files import read_torch  # noqa: E402
from stdc.weights.torch_names import convert, convert_segmentor  # noqa: E402

BACKBONES = ("stdc1", "stdc2")
#: Fractions of an array's root mean square; torch and Paddle add in different orders.
EVALUATION_TOLERANCE = 1e-4
TRAINING_TOLERANCE = 5e-3


@pytest.fixture(scope="module")
def stored() -> Dict[str, np.ndarray]:
    with np.load(HERE / "arrays.npz") as arrays:
        return dict(arrays)


def authors_weights(backbone: str, stored: Dict[str, np.ndarray], negative: bool = False) -> Dict[str, np.ndarray]:
    """The seeded weights of the authors' full-size network, under their names."""
    described = [line.split() for line in stored[f"{backbone}/shapes"]]
    return authors_names.weights({name: tuple(map(int, shape)) for name, *shape in described}, negative)


def our_network(backbone: str, arrays: Dict[str, np.ndarray], pool_counts_padding: bool = True) -> Segmentor:
    model = build_segmentor(backbone, pool_counts_padding=pool_counts_padding)
    load_segmentor(model, arrays, "the authors' weights")
    return model


def difference(digest: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of two digests, in units of the array's root mean square."""
    assert digest.shape == expected.shape
    return float((np.abs(digest - expected) / np.maximum(expected[..., 1:2], 1e-30)).max())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_converted_weights_give_the_authors_logits(backbone: str, stored: Dict[str, np.ndarray]) -> None:
    model = our_network(backbone, convert(authors_weights(backbone, stored, negative=True)))
    model.eval()
    for height, width in ((64, 128), (67, 97)):
        with paddle.no_grad():
            logits = model(paddle.to_tensor(seeded.images(1, height, width))).numpy()
        expected = stored[f"{backbone}/evaluation/{height}x{width}"]
        assert difference(seeded.digest("logits", logits, 256), expected) < EVALUATION_TOLERANCE


def test_reading_the_sign_of_in_place_norms_as_plain_batch_norm_would_show(stored: Dict[str, np.ndarray]) -> None:
    arrays = convert_segmentor(authors_weights("stdc1", stored, negative=True), inplace_abn=False)
    model = our_network("stdc1", arrays)
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(seeded.images(1, 64, 128))).numpy()
    assert difference(seeded.digest("logits", logits, 256), stored["stdc1/evaluation/64x128"]) > 0.1


def test_pooling_of_paddleseg_differs_from_the_authors_at_borders_only() -> None:
    images = paddle.to_tensor(seeded.images(1, 64, 128))
    paddle.seed(1)
    paddleseg = build_segmentor("stdc1").cp.backbone.features[2]
    paddle.seed(1)
    authors = build_segmentor("stdc1", pool_counts_padding=True).cp.backbone.features[2]
    authors.set_state_dict(paddleseg.state_dict())
    features = paddle.concat([images] * 22, axis=1)[:, :64]  # (1, 64, 64, 128)
    with paddle.no_grad():
        gap = (paddleseg(features) - authors(features)).abs().numpy()[:, :128]
    assert gap[:, :, 1:, 1:].max() == 0.0
    assert gap[:, :, 0, :].max() > 0.0
    assert gap[:, :, :, 0].max() > 0.0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_training_logits_losses_and_gradients_equal_the_authors(backbone: str, stored: Dict[str, np.ndarray]) -> None:
    theirs = authors_weights(backbone, stored)
    arrays = convert_segmentor(theirs)
    model = our_network(backbone, arrays)
    model.train()
    x, train_id = paddle.to_tensor(seeded.images(4, 67, 97)), paddle.to_tensor(seeded.labels(4, 67, 97))
    with paddle.no_grad():
        for name, output in model(x)._asdict().items():
            digest = seeded.digest(name, output.numpy(), 256)
            assert difference(digest, stored[f"{backbone}/training/{name}"]) < TRAINING_TOLERANCE, name

    load_segmentor(model, arrays, "the authors' weights")
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer.eval()
    losses = Losses(ohem_rule="authors", ohem_threshold=0.7, ohem_min_kept=3000, detail_weight=1.0)
    total, parts = segmentation_loss(model(x), train_id, losses)
    named = [float(parts[name]) for name in ("ohem", "ohem8", "ohem16", "detail_bce", "detail_dice")]
    np.testing.assert_allclose(named, stored[f"{backbone}/losses"], rtol=1e-5)

    total.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    renamed = our_names(theirs)
    assert len(stored[f"{backbone}/gradient_names"]) > 100
    for name, expected in zip(stored[f"{backbone}/gradient_names"], stored[f"{backbone}/gradients"]):
        gradient = gradients[renamed[str(name)]].numpy()
        assert difference(seeded.digest(str(name), gradient, 4), expected) < EVALUATION_TOLERANCE, name


def our_names(theirs: Dict[str, np.ndarray]) -> Dict[str, str]:
    """{authors' name: ours}, found by sending marked arrays through the converter."""
    marks = {name: np.full(array.shape, index + 1.0) for index, (name, array) in enumerate(theirs.items())}
    ours = {value.flat[0]: name for name, value in convert_segmentor(marks, inplace_abn=False).items()}
    return {name: ours[array.flat[0]] for name, array in marks.items() if array.flat[0] in ours}


@pytest.mark.parametrize("case", sorted(seeded.ohem_cases()))
def test_mining_loss_and_gradient_equal_the_authors(case: str, stored: Dict[str, np.ndarray]) -> None:
    values, train_id, n_min = seeded.ohem_cases()[case]
    x = paddle.to_tensor(values, stop_gradient=False)
    loss = ohem_cross_entropy(x, paddle.to_tensor(train_id), seeded.ohem_threshold(case), n_min, "authors")
    loss.backward()
    expected = stored[f"ohem/{case}"]
    np.testing.assert_allclose(float(loss), expected[0], rtol=1e-5, atol=1e-9)
    digest = seeded.digest("gradient", x.grad.numpy())
    if case in ("all pixels tied", "probability one half"):
        # Which of equal pixels are taken is for each sort to choose; how many is not.
        digest, expected = digest[:2], expected[:3]
    assert difference(digest, expected[1:]) < 1e-4


@pytest.mark.parametrize("size", seeded.DETAIL_SIZES)
def test_edges_and_detail_loss_equal_the_authors(size: Tuple[int, int], stored: Dict[str, np.ndarray]) -> None:
    values, train_id = seeded.detail_case(*size)
    key = f"detail/{size[0]}x{size[1]}"
    edges = detail_target(paddle.to_tensor(train_id))
    np.testing.assert_array_equal(np.packbits(edges.numpy().astype(bool)), stored[f"{key}/edges"])
    x = paddle.to_tensor(values, stop_gradient=False)
    bce, dice = detail_loss(x, edges)
    (bce + dice).backward()
    expected = stored[f"{key}/loss"]
    np.testing.assert_allclose([float(bce), float(dice)], expected[:2], rtol=1e-5)
    assert difference(seeded.digest("gradient", x.grad.numpy()), expected[2:]) < 1e-4


def test_learning_rates_equal_the_authors(stored: Dict[str, np.ndarray]) -> None:
    recipe = resolve(
        {"preset": "authors", "iterations": 60000, "global_batch": 48, "crop_height": 512, "crop_width": 1024}
    )
    rates = [schedule.learning_rate(recipe.schedule, int(step)) for step in stored["rate_steps"]]
    np.testing.assert_allclose(rates, stored["rates"], rtol=1e-12)


@pytest.mark.parametrize("file", ["small_segmentor.pth", "small_segmentor_torch1.pth"])
def test_checkpoints_of_both_torch_containers_read_without_torch(file: str) -> None:
    arrays = read_torch(HERE / file)
    own = {name: array for name, array in arrays.items() if authors_names.counts(name)}
    expected = authors_names.weights({name: array.shape for name, array in own.items()}, negative=True)
    assert len(own) > 200
    for name, array in own.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    # A stage under its second name is the same storage in the file.
    first, second = "cp.backbone.features.2.avd_layer.0.weight", "cp.backbone.x8.0.2.avd_layer.0.weight"
    np.testing.assert_array_equal(arrays[first], arrays[second])


def test_converted_names_are_exactly_those_of_our_network() -> None:
    converted = convert(read_torch(HERE / "small_segmentor.pth"))
    assert sorted(converted) == sorted(build_segmentor("stdc1", unused_heads=True).state_dict())


def test_an_imagenet_backbone_loads_without_its_classifier(stored: Dict[str, np.ndarray]) -> None:
    small = convert(read_torch(HERE / "small_backbone_torch1.tar"))
    model = build_segmentor("stdc1")
    assert sorted(small) == sorted(model.cp.backbone.state_dict())
    prefix = "cp.backbone."
    theirs = authors_weights("stdc1", stored)
    full = {name[len(prefix) :]: array for name, array in theirs.items() if name.startswith(prefix)}
    assert load_backbone(model, convert(full), "backbone") == []
    loaded = state_arrays(model)["cp.backbone.features.3.conv_list.0.bn._variance"]
    np.testing.assert_array_equal(loaded, theirs[f"{prefix}features.3.conv_list.0.bn.running_var"])
