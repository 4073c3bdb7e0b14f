"""Parameters and multiply-accumulates, counted from the network that is trained.

One multiply-accumulate (MAC) of a convolution is one multiplication and one addition; the papers call it a FLOP.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List, NamedTuple, Set, Tuple

import paddle
from paddle import nn

from stdc.nn.backbone import CHANNELS, STDCNet
from stdc.nn.blocks import BackboneConv, DecoderConv

#: Input that is really sent through: small, but no feature map shrinks to one pixel, which only global pooling makes.
_PROBE = (64, 128)

#: Classes of ImageNet.
_IMAGENET_CLASSES = 1000


class Count(NamedTuple):
    """What one image costs in evaluation; only layers that run are counted.

    Attributes:
        learned: parameters that training changes.
        stored: those and the running statistics of batch norm, as they stand in a weights file.
        macs: multiply-accumulates of all convolutions.
        operations: those, and two per value of batch norm, one per value of ReLU, one per value that is pooled. The
            paper's figures for its ImageNet networks contain all of these.
    """

    learned: int
    stored: int
    macs: int
    operations: int


def count_forward(model: nn.Layer, height: int, width: int) -> Count:
    """What one image of (height, width) costs in a segmentor or a backbone.

    The heads that only training uses are not run and so not counted.

    Raises:
        ValueError: a side is not a multiple of 32.
    """
    if height % 32 or width % 32 or min(height, width) < 32:
        raise ValueError(f"size {height}x{width}: multiples of 32 are needed to scale the count")
    scale = height * width / (_PROBE[0] * _PROBE[1])
    run: List[nn.Layer] = []
    macs: List[float] = []
    others: List[float] = []

    def note(layer: nn.Layer, inputs: Any, output: paddle.Tensor) -> None:
        run.append(layer)
        if not isinstance(layer, (nn.Conv2D, nn.BatchNorm2D, BackboneConv, DecoderConv, nn.AvgPool2D)):
            return
        factor = scale if output.shape[2] * output.shape[3] > 1 else 1.0
        if isinstance(layer, nn.Conv2D):
            macs.append(_size(layer.weight) * output.shape[2] * output.shape[3] * factor)
        elif isinstance(layer, nn.BatchNorm2D):
            others.append(2 * _size(output) * factor)
        elif isinstance(layer, nn.AvgPool2D):
            others.append(_size(inputs[0]) * factor)
        else:
            # The last step of these blocks is ReLU, which is no layer here.
            others.append(_size(output) * factor)

    with _hooked(model, note), paddle.no_grad():
        model(paddle.zeros([1, 3, *_PROBE]))
    learned, stored = _numbers(run)
    return Count(learned, stored, round(sum(macs)), round(sum(macs) + sum(others)))


def count_classifier(name: str, side: int = 224) -> Count:
    """The ImageNet network of the paper: the backbone, and the classifier that segmentation drops.

    The classifier is the authors': convolution 1x1 to 1024 channels with batch norm and ReLU, average pooling, two
    linear layers without bias (1024 to 1024 with ReLU, 1024 to 1000).
    """
    backbone = count_forward(STDCNet(name), side, side)
    channels, pixels = CHANNELS[-1], (side // 32) ** 2
    linear = channels * channels + channels * _IMAGENET_CLASSES
    macs = channels * channels * pixels + linear
    # Per value, batch norm counts twice, ReLU and pooling once; then the ReLU between the linear layers.
    others = 4 * channels * pixels + channels
    return Count(
        learned=backbone.learned + channels * channels + linear + 2 * channels,
        stored=backbone.stored + channels * channels + linear + 4 * channels,
        macs=backbone.macs + macs,
        operations=backbone.operations + macs + others,
    )


def count_layers(model: nn.Layer) -> Tuple[int, int]:
    """(learned, stored) numbers of every layer, run or not."""
    return _numbers(model.sublayers(include_self=True))


@contextlib.contextmanager
def _hooked(model: nn.Layer, note: Any) -> Iterator[None]:
    training = model.training
    hooks = [layer.register_forward_post_hook(note) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        if training:
            model.train()


def _numbers(layers: List[nn.Layer]) -> Tuple[int, int]:
    learned = stored = 0
    seen: Set[int] = set()
    for layer in layers:
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        for parameter in layer.parameters(include_sublayers=False):
            stored += _size(parameter)
            # Paddle keeps running statistics as parameters without gradient: stored, but not learned.
            learned += 0 if parameter.stop_gradient else _size(parameter)
    return learned, stored


def _size(tensor: paddle.Tensor) -> int:
    size = 1
    for length in tensor.shape:
        size *= int(length)
    return size
