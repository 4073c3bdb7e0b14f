"""Learning rates against values worked out by hand and by Paddle's own scheduler."""

import pytest

from stdc.recipe import resolve
from stdc.training.schedule import learning_rate

PLAIN = {"iterations": 80000, "global_batch": 96, "crop_height": 512, "crop_width": 1024}


def test_poly_schedule_equals_paddles_value_by_value():
    paddle = pytest.importorskip("paddle")
    schedule = resolve({**PLAIN, "preset": "paddleseg", "iterations": 50}).schedule
    # As PaddleSeg builds it from `lr_scheduler: PolynomialDecay, learning_rate: 0.01, end_lr: 0, power: 0.9`.
    scheduler = paddle.optimizer.lr.PolynomialDecay(0.01, decay_steps=50, end_lr=0.0, power=0.9)
    for iteration in range(50):
        assert learning_rate(schedule, iteration) == pytest.approx(scheduler.get_lr(), rel=1e-12)
        scheduler.step()


def test_published_recipe_at_start_middle_and_end():
    schedule = resolve({**PLAIN, "preset": "paddleseg"}).schedule
    assert learning_rate(schedule, 0) == 0.01
    assert learning_rate(schedule, 40000) == pytest.approx(0.01 * 0.5**0.9)
    assert 0 < learning_rate(schedule, 79999) < 1e-6


def test_authors_warm_up_grows_by_a_constant_factor_then_decays():
    schedule = resolve({**PLAIN, "preset": "authors", "iterations": 60000}).schedule
    rates = [learning_rate(schedule, iteration) for iteration in (0, 1, 500, 1000, 1001, 30500)]
    assert rates[0] == pytest.approx(1e-5)
    # From 1e-5 to 1e-2 in 1000 steps: a factor of 10 ** 0.003 each.
    assert rates[1] / rates[0] == pytest.approx(10**0.003)
    assert rates[2] == pytest.approx(10**-3.5)
    assert rates[3] == pytest.approx(0.01)
    assert rates[4] == pytest.approx(0.01 * (1 - 1 / 59000) ** 0.9)
    assert rates[5] == pytest.approx(0.01 * 0.5**0.9)
