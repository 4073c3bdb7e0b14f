"""Parameters and multiply-accumulates, counted from the network that is trained.

One multiply-accumulate (MAC) of a convolution is one multiplication and one addition; the papers call it a FLOP. Batch
norm, pooling, activation and resizing are not counted, as is usual.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

import paddle
from paddle import nn

from stdc.nn.backbone import CHANNELS, STDCNet
from stdc.nn.segmentor import Segmentor, build_segmentor

#: Input that is really sent through: small, but no feature map shrinks to one pixel, which only global pooling makes.
_PROBE = (64, 128)

#: Classes of ImageNet.
_IMAGENET_CLASSES = 1000


class Count(NamedTuple):
    """Attributes:
    learned: parameters that training changes.
    stored: those and the running statistics of batch norm, as they stand in a weights file.
    macs: multiply-accumulates of all convolutions for one image.
    """

    learned: int
    stored: int
    macs: int


def count_inference(model: Segmentor, height: int, width: int) -> Count:
    """What one image of (height, width) costs in evaluation, heads that only training uses left out.

    Raises:
        ValueError: a side is not a multiple of 32.
    """
    return _count_run(model, height, width)


def count_backbone(model: STDCNet, height: int, width: int) -> Count:
    """What one image costs in the backbone alone.

    Raises:
        ValueError: a side is not a multiple of 32.
    """
    return _count_run(model, height, width)


def count_classifier(name: str, side: int = 224) -> Count:
    """The ImageNet network of the paper's table: the backbone and the classifier that segmentation drops.

    The classifier is the authors': convolution 1x1 to 1024 with batch norm, average pooling, two linear layers without
    bias (1024 to 1024, 1024 to 1000).
    """
    backbone = count_backbone(STDCNet(name), side, side)
    channels = CHANNELS[-1]
    weights = 2 * channels * channels + channels * _IMAGENET_CLASSES
    return Count(
        learned=backbone.learned + weights + 2 * channels,
        stored=backbone.stored + weights + 4 * channels,
        macs=backbone.macs + weights - channels * channels + (side // 32) ** 2 * channels * channels,
    )


def count_file(model: nn.Layer) -> Tuple[int, int]:
    """(learned, stored) numbers of every layer, run or not."""
    return _numbers(model.sublayers(include_self=True))


def model_table(size: Tuple[int, int] = (512, 1024)) -> List[Dict[str, Any]]:
    """A row a network: its counts beside the published ones; sources in `docs/fidelity.md`."""
    rows: List[Dict[str, Any]] = []
    published = {"stdc1": (8.44, 813), "stdc2": (12.47, 1446)}
    for name in ("stdc1", "stdc2"):
        model = build_segmentor(name)
        whole = build_segmentor(name, unused_heads=True)
        rows.append(
            {
                "name": name,
                "classifier": count_classifier(name),
                "classifier_published": published[name],
                "backbone": count_backbone(model.cp.backbone, *size),
                "inference": count_inference(model, *size),
                "training": count_file(model),
                "file": count_file(whole),
            }
        )
    return rows


def _count_run(model: nn.Layer, height: int, width: int) -> Count:
    if height % 32 or width % 32 or min(height, width) < 32:
        raise ValueError(f"size {height}x{width}: multiples of 32 are needed to scale the count")
    scale = height * width / (_PROBE[0] * _PROBE[1])
    run: List[nn.Layer] = []
    macs: List[float] = []

    def note(layer: nn.Layer, _: Any, output: paddle.Tensor) -> None:
        run.append(layer)
        if isinstance(layer, nn.Conv2D):
            pixels = int(output.shape[2]) * int(output.shape[3])
            weights = _size(layer.weight)
            macs.append(weights * pixels * (scale if pixels > 1 else 1.0))

    with _hooked(model, note), paddle.no_grad():
        model(paddle.zeros([1, 3, *_PROBE]))
    learned, stored = _numbers(run)
    return Count(learned, stored, round(sum(macs)))


@contextlib.contextmanager
def _hooked(model: nn.Layer, note: Any) -> Iterator[None]:
    training = model.training
    leaves = [layer for layer in model.sublayers() if not layer.sublayers()]
    hooks = [layer.register_forward_post_hook(note) for layer in leaves]
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
            # Running statistics are parameters without gradient in Paddle.
            learned += 0 if parameter.stop_gradient else _size(parameter)
    return learned, stored


def _size(tensor: paddle.Tensor) -> int:
    size = 1
    for length in tensor.shape:
        size *= int(length)
    return size
