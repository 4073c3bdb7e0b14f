"""Learning rate as a pure function of the iteration.

Poly decay (Chen et al., DeepLab; PaddleSeg's PolynomialDecay) after an optional exponential warm-up (the authors'
``optimizer_loss.py``). A function holds no state, so a resumed run cannot get it wrong.
"""

from __future__ import annotations

from stdc.recipe import Schedule


def learning_rate(schedule: Schedule, iteration: int) -> float:
    """The base learning rate of one step.

    Args:
        iteration: 0 for the first step, at most `schedule.iterations`.
    Returns:
        The rate, per step, before a group's own factor.
    """
    warmup = schedule.warmup_iterations
    if warmup and iteration <= warmup:
        growth = (schedule.base_lr / schedule.warmup_start_lr) ** (1.0 / warmup)
        return schedule.warmup_start_lr * growth**iteration
    progress = (iteration - warmup) / (schedule.iterations - warmup)
    return (schedule.base_lr - schedule.end_lr) * (1.0 - progress) ** schedule.poly_power + schedule.end_lr
