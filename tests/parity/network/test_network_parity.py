"""The network, its losses and a training step against digests of what PaddleSeg 2.7 computed (see make_arrays.py).

Side by side in one process the differences are zero or nearly so: `make parity`. Here the reference was computed on
another machine, whose matrix kernels add in another order, so the tolerances are those of float32 sums.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import seeded  # noqa: E402

paddle = pytest.importorskip("paddle")

from stdc.nn.losses import (  # noqa: E402
    detail_loss,
    detail_target,
    ohem_cross_entropy,
    segmentation_loss,
)
from stdc.nn.segmentor import Segmentor, build_segmentor, is_unused_head_key  # noqa: E402
from stdc.nn.state import load_segmentor, state_arrays  # noqa: E402
from stdc.recipe import Losses, resolve  # noqa: E402
from stdc.training import schedule  # noqa: E402
from stdc.training.optimizer import build_optimizer  # noqa: E402

BACKBONES = ("stdc1", "stdc2")
SIZES = ((64, 128), (67, 97), (33, 65))
#: Tolerances are fractions of an array's root mean square. Seen between two sets of matrix kernels on one machine:
#: 3e-6 in evaluation; 4e-4 in training, where batch norms over few pixels multiply rounding errors.
EVALUATION_TOLERANCE = 1e-4
TRAINING_TOLERANCE = 5e-3


def paddleseg_losses(min_kept: int) -> Losses:
    """PaddleSeg's losses with another least number of kept pixels."""
    return Losses(ohem_rule="paddleseg", ohem_threshold=0.7, ohem_min_kept=min_kept, detail_weight=1.0)


@pytest.fixture(scope="module")
def stored() -> Dict[str, np.ndarray]:
    with np.load(HERE / "arrays.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def networks() -> Dict[str, Segmentor]:
    """Our networks with the seeded weights of PaddleSeg's names."""
    made = {}
    for backbone in BACKBONES:
        made[backbone] = build_segmentor(backbone)
        load_segmentor(made[backbone], seeded_weights(backbone), "seeded weights")
    return made


def seeded_weights(backbone: str) -> Dict[str, np.ndarray]:
    whole = build_segmentor(backbone, unused_heads=True)
    return seeded.weights({name: tensor.shape for name, tensor in whole.state_dict().items()})


def difference(digest: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of two digests, in units of the array's root mean square."""
    assert digest.shape == expected.shape
    return float((np.abs(digest - expected) / np.maximum(expected[..., 1:2], 1e-30)).max())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_names_order_and_shapes_are_those_of_paddleseg(backbone: str, stored: Dict[str, np.ndarray]) -> None:
    state = build_segmentor(backbone, unused_heads=True).state_dict()
    ours = [" ".join(map(str, [name, *tensor.shape])) for name, tensor in state.items()]
    assert ours == list(stored[f"{backbone}/shapes"])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_same_seed_gives_the_initial_weights_of_paddleseg(backbone: str, stored: Dict[str, np.ndarray]) -> None:
    paddle.seed(20)
    fresh = state_arrays(build_segmentor(backbone, unused_heads=True))
    digests = np.stack([seeded.digest(name, fresh[name], 4) for name in sorted(fresh)])
    # The draws are bit equal on one machine; another C library may round a logarithm differently.
    np.testing.assert_allclose(digests, stored[f"{backbone}/initial"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", SIZES)
def test_evaluation_logits_equal_paddleseg(
    backbone: str, size: Tuple[int, int], stored: Dict[str, np.ndarray], networks: Dict[str, Segmentor]
) -> None:
    model = networks[backbone]
    load_segmentor(model, seeded_weights(backbone), "seeded weights")
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(seeded.images(1, *size)))
    expected = stored[f"{backbone}/evaluation/{size[0]}x{size[1]}"]
    assert difference(seeded.digest("logits", logits.numpy(), 256), expected) < EVALUATION_TOLERANCE


@pytest.mark.parametrize("backbone", BACKBONES)
def test_training_logits_statistics_and_losses_equal_paddleseg(
    backbone: str, stored: Dict[str, np.ndarray], networks: Dict[str, Segmentor]
) -> None:
    model = networks[backbone]
    load_segmentor(model, seeded_weights(backbone), "seeded weights")
    model.train()
    outputs = model(paddle.to_tensor(seeded.images(4, 67, 97)))
    for name, output in outputs._asdict().items():
        expected = stored[f"{backbone}/training/{name}"]
        assert difference(seeded.digest(name, output.numpy(), 256), expected) < TRAINING_TOLERANCE, name
    state = state_arrays(model)
    running = sorted(name for name in seeded_weights(backbone) if name.endswith(("_mean", "_variance")))
    for name, expected in zip(running, stored[f"{backbone}/running"]):
        if not is_unused_head_key(name):
            assert difference(seeded.digest(name, state[name], 4), expected) < TRAINING_TOLERANCE, name

    train_id = paddle.to_tensor(seeded.labels(4, 67, 97))
    total, parts = segmentation_loss(outputs, train_id, paddleseg_losses(3000))
    np.testing.assert_allclose(four_losses(parts), stored[f"{backbone}/losses"], rtol=1e-4)
    assert float(total) == pytest.approx(sum(four_losses(parts)), rel=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradient_of_every_parameter_equals_paddleseg(
    backbone: str, stored: Dict[str, np.ndarray], networks: Dict[str, Segmentor]
) -> None:
    model = networks[backbone]
    load_segmentor(model, seeded_weights(backbone), "seeded weights")
    model.train()
    model(paddle.to_tensor(seeded.images(4, 67, 97)))  # moves the running statistics as the reference did
    freeze_statistics(model)
    outputs = model(paddle.to_tensor(seeded.images(4, 67, 97)))
    train_id = paddle.to_tensor(seeded.labels(4, 67, 97))
    segmentation_loss(outputs, train_id, paddleseg_losses(3000))[0].backward()
    gradients = {name: tensor.grad for name, tensor in model.named_parameters() if not tensor.stop_gradient}
    assert len(gradients) == len(stored[f"{backbone}/gradients"])
    for name, expected in zip(sorted(gradients), stored[f"{backbone}/gradients"]):
        assert difference(seeded.digest(name, gradients[name].numpy(), 4), expected) < EVALUATION_TOLERANCE, name
    model.clear_gradients()


def freeze_statistics(model: Segmentor) -> None:
    """As the reference did: batch norms over small batches multiply rounding errors, layer by layer."""
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer.eval()


def four_losses(parts: Dict[str, Any]) -> List[float]:
    detail = float(parts["detail_bce"]) + float(parts["detail_dice"])
    return [float(parts["ohem"]), float(parts["ohem8"]), float(parts["ohem16"]), detail]


def test_first_sgd_steps_follow_paddleseg(stored: Dict[str, np.ndarray], networks: Dict[str, Segmentor]) -> None:
    recipe = resolve({"preset": "paddleseg", "iterations": 50, "global_batch": 2, "crop_height": 64, "crop_width": 64})
    model = networks["stdc1"]
    load_segmentor(model, seeded_weights("stdc1"), "seeded weights")
    model.train()
    freeze_statistics(model)
    optimizer = build_optimizer(model, recipe.optimizer)
    rows = []
    for step in range(12):
        optimizer.set_lr(schedule.learning_rate(recipe.schedule, step))
        outputs = model(paddle.to_tensor(seeded.images(2, 64, 64, step % 4)))
        train_id = paddle.to_tensor(seeded.labels(2, 64, 64, step % 4))
        total, parts = segmentation_loss(outputs, train_id, paddleseg_losses(2000))
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
        rows.append(four_losses(parts))
    np.testing.assert_allclose(rows, stored["curve"], rtol=1e-5)


@pytest.mark.parametrize("case", sorted(seeded.ohem_cases()))
def test_mining_loss_and_gradient_equal_paddleseg(case: str, stored: Dict[str, np.ndarray]) -> None:
    values, train_id, min_kept = seeded.ohem_cases()[case]
    x = paddle.to_tensor(values, stop_gradient=False)
    loss = ohem_cross_entropy(x, paddle.to_tensor(train_id), seeded.ohem_threshold(case), min_kept)
    loss.backward()
    expected = stored[f"ohem/{case}"]
    np.testing.assert_allclose(float(loss), expected[0], rtol=1e-5, atol=1e-9)
    assert difference(seeded.digest("gradient", x.grad.numpy()), expected[1:]) < 1e-4


@pytest.mark.parametrize("size", seeded.DETAIL_SIZES)
def test_detail_loss_and_gradient_equal_paddleseg(size: Tuple[int, int], stored: Dict[str, np.ndarray]) -> None:
    values, train_id = seeded.detail_case(*size)
    x = paddle.to_tensor(values, stop_gradient=False)
    loss = sum(detail_loss(x, detail_target(paddle.to_tensor(train_id))))
    loss.backward()
    expected = stored[f"detail/{size[0]}x{size[1]}"]
    np.testing.assert_allclose(float(loss), expected[0], rtol=1e-5)
    assert difference(seeded.digest("gradient", x.grad.numpy()), expected[1:]) < 1e-4


def test_learning_rates_equal_paddleseg(stored: Dict[str, np.ndarray]) -> None:
    recipe = resolve(
        {"preset": "paddleseg", "iterations": 80000, "global_batch": 48, "crop_height": 512, "crop_width": 1024}
    )
    rates = [schedule.learning_rate(recipe.schedule, step) for step in [*range(0, 80000, 1000), 79999]]
    np.testing.assert_allclose(rates, stored["rates"], rtol=1e-12)
