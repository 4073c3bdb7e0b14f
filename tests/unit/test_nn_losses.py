"""The losses against a float64 restatement with full sorts, and against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any, List, Tuple

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

paddle = pytest.importorskip("paddle")

from stdc.nn.losses import (  # noqa: E402
    detail_loss,
    detail_target,
    ohem_cross_entropy,
    segmentation_loss,
)
from stdc.nn.segmentor import SegmentorOutputs  # noqa: E402
from stdc.recipe import Losses  # noqa: E402


def probabilities(logits: np.ndarray, train_id: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(probability of the true class of every labeled pixel, share of pixels that are labeled), float64."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    share = exponents / exponents.sum(axis=1, keepdims=True)
    known = train_id != 255
    chosen = np.take_along_axis(share, np.where(known, train_id, 0)[:, None], axis=1)[:, 0]
    return chosen[known], known.mean()


def sorted_paddleseg(logits: np.ndarray, train_id: np.ndarray, threshold: float, min_kept: int) -> float:
    """PaddleSeg's rule: sort, take the larger of two thresholds, keep what is strictly below."""
    chosen, _ = probabilities(logits, train_id)
    if len(chosen) > min_kept:
        limit = max(threshold, np.sort(chosen)[min_kept - 1])
        chosen = chosen[chosen < limit]
    total = -np.log(chosen).sum() / train_id.size
    return float(total / (len(chosen) / train_id.size + 1e-5))


def sorted_authors(logits: np.ndarray, train_id: np.ndarray, threshold: float, n_min: int) -> float:
    """The authors' rule: sort all losses, ignored pixels being 0."""
    chosen, _ = probabilities(logits, train_id)
    losses = np.sort(np.concatenate([-np.log(chosen), np.zeros(train_id.size - len(chosen))]))[::-1]
    hard = losses[losses > -math.log(threshold)]
    return float(hard.mean() if len(hard) > n_min else losses[:n_min].mean())


def float32_tells_apart(logits: np.ndarray, train_id: np.ndarray, threshold: float, min_kept: int) -> bool:
    """Whether the last pixel that is kept and its neighbors in the order differ by more than float32 rounds.

    Losses of nearly sure pixels are some 1e-7; there the sort in float64 sees an order where float32 sees ties.
    """
    chosen, _ = probabilities(logits, train_id)
    losses = np.sort(np.append(-np.log(chosen), -math.log(threshold)))[::-1]
    around = losses[max(min_kept - 3, 0) : min_kept + 3]
    return bool((np.abs(np.diff(around)) > 1e-6).all())


def case(seed: int, sharpness: float, ignored: float) -> Tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    train_id = random.randint(0, 19, (2, 9, 11))
    logits = random.standard_normal((2, 19, 9, 11))
    np.put_along_axis(logits, train_id[:, None], sharpness * random.uniform(size=(2, 1, 9, 11)), axis=1)
    train_id[random.uniform(size=train_id.shape) < ignored] = 255
    return logits.astype(np.float32), train_id


@example(seed=7, sharpness=8.0, ignored=0.3, min_kept=60, threshold=0.7)
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sharpness=st.sampled_from([2.0, 8.0, 15.0]),
    ignored=st.sampled_from([0.0, 0.3, 0.95]),
    min_kept=st.integers(1, 197),
    threshold=st.sampled_from([0.3, 0.7, 0.95]),
)
def test_mining_equals_a_full_sort(
    seed: int, sharpness: float, ignored: float, min_kept: int, threshold: float
) -> None:
    logits, train_id = case(seed, sharpness, ignored)
    assume(float32_tells_apart(logits, train_id, threshold, min_kept))
    arguments = (paddle.to_tensor(logits), paddle.to_tensor(train_id), threshold, min_kept)
    expected = sorted_paddleseg(logits, train_id, threshold, min_kept)
    assert float(ohem_cross_entropy(*arguments)) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    expected = sorted_authors(logits, train_id, threshold, min_kept)
    assert float(ohem_cross_entropy(*arguments, rule="authors")) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def two_class_logits(chances: List[float]) -> Tuple[Any, Any]:
    """One row of pixels whose true class 0 has the given probabilities."""
    odds = np.log(np.array(chances) / (1.0 - np.array(chances)))
    logits = np.stack([odds, np.zeros_like(odds)])[None, :, None, :].astype(np.float32)
    return paddle.to_tensor(logits), paddle.zeros([1, 1, len(chances)], "int64")


def test_hard_pixels_alone_count_when_there_are_enough() -> None:
    logits, train_id = two_class_logits([0.9, 0.6, 0.5, 0.8])
    # Two pixels below 0.7: (ln 1/0.6 + ln 1/0.5) / 4 over 2/4 + 1e-5.
    expected = (-math.log(0.6) - math.log(0.5)) / 4 / (0.5 + 1e-5)
    assert float(ohem_cross_entropy(logits, train_id, 0.7, 2)) == pytest.approx(expected, rel=1e-6)


def test_too_few_hard_pixels_keep_what_is_harder_than_the_last_wanted() -> None:
    logits, train_id = two_class_logits([0.9, 0.6, 0.95, 0.8])
    # Three wanted: the third hardest has 0.9, and PaddleSeg keeps what is strictly below.
    expected = (-math.log(0.6) - math.log(0.8)) / 4 / (0.5 + 1e-5)
    assert float(ohem_cross_entropy(logits, train_id, 0.7, 3)) == pytest.approx(expected, rel=1e-6)
    expected = (-math.log(0.6) - math.log(0.8) - math.log(0.9)) / 3
    assert float(ohem_cross_entropy(logits, train_id, 0.7, 3, "authors")) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rule", ["paddleseg", "authors"])
def test_a_batch_without_labels_has_loss_and_gradient_zero(rule: str) -> None:
    logits = paddle.randn([1, 19, 6, 6])
    logits.stop_gradient = False
    loss = ohem_cross_entropy(logits, paddle.full([1, 6, 6], 255, "int64"), 0.7, 10, rule)
    loss.backward()
    assert float(loss) == 0.0
    assert not logits.grad.numpy().any()


def test_ignored_pixels_get_no_gradient() -> None:
    logits, train_id = case(1, 2.0, 0.4)
    x = paddle.to_tensor(logits, stop_gradient=False)
    ohem_cross_entropy(x, paddle.to_tensor(train_id), 0.7, 20).backward()
    touched = np.abs(x.grad.numpy()).sum(axis=1) > 0
    assert touched.any()
    assert not touched[train_id == 255].any()


def test_unknown_mining_rule_and_no_pixel_to_keep_are_refused() -> None:
    logits, train_id = two_class_logits([0.5, 0.5])
    with pytest.raises(ValueError, match="'mmseg' is neither"):
        ohem_cross_entropy(logits, train_id, 0.7, 1, "mmseg")
    with pytest.raises(ValueError, match="at least 1 pixel, not 0"):
        ohem_cross_entropy(logits, train_id, 0.7, 0)


def edges(rows: List[str]) -> List[str]:
    """The edge map of a small drawing, as a drawing: `.` is class 0, `#` class 1, `x` ignored."""
    meaning = {".": 0, "#": 1, "x": 255}
    train_id = paddle.to_tensor(np.array([[[meaning[pixel] for pixel in row] for row in rows]]))
    found = detail_target(train_id).numpy()[0, 0]
    assert set(np.unique(found)) <= {0.0, 1.0}
    return ["".join("#" if value else "." for value in row) for row in found]


def test_a_region_of_class_zero_has_no_edges_even_at_the_image_border() -> None:
    assert edges(["." * 8] * 8) == ["." * 8] * 8


def test_the_brighter_side_of_a_border_is_the_edge_at_full_size() -> None:
    # The Laplacian is positive only where a label is above its neighbors.
    drawing = ["........########"] * 16
    found = edges(drawing)
    assert all(row[:8] == "." * 8 for row in found)
    assert all(row[8] == "#" for row in found)
    # Deep inside the region nothing changes.
    assert found[8][11:14] == "..."


def test_edges_seen_at_stride_four_alone_are_off() -> None:
    # A single pixel at (4, 4) is seen by every stride; (6, 6) by strides 1 and 2; (5, 5) by stride 1 only.
    canvas = np.zeros((1, 16, 16), np.int64)
    canvas[0, 4, 4] = 1
    found = detail_target(paddle.to_tensor(canvas)).numpy()[0, 0]
    # Stride 4 would switch on 4x4 pixels; what is on is stride 2's 2x2.
    assert found.sum() == 4.0
    assert found[4:6, 4:6].all()


def test_the_rim_of_an_ignored_region_is_an_edge() -> None:
    found = edges(["......", "......", "..xx..", "..xx..", "......", "......"])
    assert found[2][2:4] == "##"
    assert found[0][:2] == ".."


def test_detail_loss_equals_its_definition() -> None:
    random = np.random.RandomState(0)
    logits = random.standard_normal((2, 1, 6, 8)).astype(np.float32)
    target = (random.uniform(size=(2, 1, 6, 8)) < 0.3).astype(np.float32)
    bce, dice = detail_loss(paddle.to_tensor(logits), paddle.to_tensor(target))
    share = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    expected = -(target * np.log(share) + (1 - target) * np.log(1 - share)).mean()
    assert float(bce) == pytest.approx(expected, rel=1e-6)
    overlap, sizes = (share * target).sum((1, 2, 3)), share.sum((1, 2, 3)) + target.sum((1, 2, 3))
    assert float(dice) == pytest.approx((1 - (2 * overlap + 1) / (sizes + 1)).mean(), rel=1e-6)


def test_an_image_without_edges_gives_a_finite_detail_loss() -> None:
    bce, dice = detail_loss(paddle.full([1, 1, 4, 4], -50.0), paddle.zeros([1, 1, 32, 32]))
    assert float(bce) == pytest.approx(0.0, abs=1e-6)
    assert float(dice) == pytest.approx(0.0, abs=1e-6)


def test_step_loss_is_the_sum_of_its_named_parts_and_they_carry_no_gradient() -> None:
    paddle.seed(4)
    full = [paddle.randn([1, 19, 16, 24]) for _ in range(3)]
    outputs = SegmentorOutputs(*full, paddle.randn([1, 1, 2, 3]))
    train_id = paddle.randint(0, 19, [1, 16, 24])
    total, parts = segmentation_loss(
        outputs, train_id, Losses(ohem_rule="paddleseg", ohem_threshold=0.7, ohem_min_kept=50, detail_weight=0.5)
    )
    values = {name: float(value) for name, value in parts.items()}
    expected = sum(values[name] for name in ("ohem", "ohem8", "ohem16"))
    expected += 0.5 * (values["detail_bce"] + values["detail_dice"])
    assert float(total) == values["loss"] == pytest.approx(expected, rel=1e-6)
    assert values["edge_share"] == pytest.approx(float(detail_target(train_id).mean()))
    assert all(value.stop_gradient for value in parts.values())
