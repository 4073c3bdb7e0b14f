"""PaddleSeg 2.7 as it is installed, with the changes without which it cannot serve as a reference.

1. `OhemCrossEntropyLoss` adds float32 and int64, which Paddle 3 refuses: the mask is cast. Same value.
2. `DetailAggregateLoss` draws its fusion kernel at random: it is set to the authors' 0.6, 0.3, 0.1.
3. `calculate_area` of its validation concatenates scalars: they are stacked (see validation.py). Same value.

Nothing else is touched; the environment gives it scikit-learn for the package `sklearn`, which refuses to install.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np
import paddle
from paddleseg.core.train import loss_computation
from paddleseg.models import losses as peer_losses
from paddleseg.models.backbones import STDC1, STDC2
from paddleseg.models.losses import DetailAggregateLoss, ohem_cross_entropy_loss
from paddleseg.models.stdcseg import STDCSeg
from paddleseg.utils.utils import load_entire_model

__all__ = [
    "DetailAggregateLoss",
    "build",
    "detail_loss",
    "load_entire_model",
    "losses",
    "ohem",
    "ohem_class",
    "peer_losses",
    "set_fusion_weights",
    "step_losses",
]

FUSION_WEIGHTS = (0.6, 0.3, 0.1)


def build(backbone: str) -> paddle.nn.Layer:
    """PaddleSeg's STDC1-Seg or STDC2-Seg as its Cityscapes configuration builds it."""
    return STDCSeg(num_classes=19, backbone={"stdc1": STDC1, "stdc2": STDC2}[backbone]())


def ohem_class() -> Any:
    """The mining loss; see change 1."""
    source = inspect.getsource(ohem_cross_entropy_loss.OhemCrossEntropyLoss)
    if int(paddle.__version__.split(".")[0]) < 3:
        return ohem_cross_entropy_loss.OhemCrossEntropyLoss
    before, after = "prob + (1 - valid_mask)", "prob + (1 - valid_mask).astype('float32')"
    assert source.count(before) == 1
    names: Dict[str, Any] = dict(vars(ohem_cross_entropy_loss))
    # Registering the class a second time under its name would be an error.
    names["manager"] = SimpleNamespace(LOSSES=SimpleNamespace(add_component=lambda made: made))
    exec(source.replace(before, after), names)
    return names["OhemCrossEntropyLoss"]


def ohem(threshold: float = 0.7, min_kept: int = 10000) -> Any:
    """The mining loss; see change 1."""
    return ohem_class()(thresh=threshold, min_kept=min_kept)


def detail_loss() -> Any:
    """The detail loss; see change 2."""
    made = DetailAggregateLoss()
    set_fusion_weights(made)
    return made


def set_fusion_weights(loss: DetailAggregateLoss) -> None:
    """Replace the kernel that the loss drew by the authors'."""
    loss.fuse_kernel.set_value(np.array(FUSION_WEIGHTS, np.float32).reshape(1, 3, 1, 1))


def losses(min_kept: int = 10000) -> Dict[str, List[Any]]:
    """The losses of the Cityscapes configuration, in the form that PaddleSeg's trainer takes."""
    return {"types": [ohem(min_kept=min_kept) for _ in range(3)] + [detail_loss()], "coef": [1, 1, 1, 1]}


def step_losses(outputs: List[Any], train_id: Any, chosen: Dict[str, List[Any]]) -> List[Any]:
    """Main, two auxiliary and detail loss, computed by PaddleSeg's trainer."""
    return loss_computation(logits_list=outputs, labels=train_id, edges=None, losses=chosen)
