"""Learning rate as a pure function of the iteration.

Poly decay (Chen et al., DeepLab; PaddleSeg's PolynomialDecay) after an optional exponential warm-up (the authors'
``optimizer_loss.py``). A function holds no state, so a resumed run cannot get it wrong.
"""

from __future__ import annotations

from stdc.recipe import TrainRecipe


def learning_rate(recipe: TrainRecipe, iteration: int) -> float:
    """The base learning rate of one step.

    Args:
        iteration: 0 for the first step.
    """
    warmup = recipe.warmup_iterations
    if warmup and iteration <= warmup:
        growth = (recipe.base_lr / recipe.warmup_start_lr) ** (1.0 / warmup)
        return recipe.warmup_start_lr * growth**iteration
    progress = (iteration - warmup) / (recipe.iterations - warmup)
    return (recipe.base_lr - recipe.end_lr) * (1.0 - progress) ** recipe.poly_power + recipe.end_lr
