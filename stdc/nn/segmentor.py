"""STDC-Seg: backbone, context path, fusion and heads.

Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021, section 3.2 and figure 4. Parameter
names and shapes are those of PaddleSeg 2.7's `STDCSeg`.
"""

from __future__ import annotations

import functools
from typing import Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from stdc.nn.backbone import CHANNELS, STDCNet
from stdc.nn.blocks import AttentionRefinement, DecoderConv, FeatureFusion, SegmentationHead

#: Channels of the context path and of the fused features.
CONTEXT_CHANNELS = 128
FUSED_CHANNELS = 256

#: Heads that PaddleSeg builds and saves but never runs (only the detail head at 1/8 is on): name and input channels.
UNUSED_HEADS: Dict[str, int] = {"conv_out_sp16": CHANNELS[3], "conv_out_sp4": CHANNELS[1], "conv_out_sp2": CHANNELS[0]}


class SegmentorOutputs(NamedTuple):
    """What the network returns in training.

    The three class logits have the input's size, (N, classes, H, W); the detail logits stay at 1/8, (N, 1, H/8, W/8).
    """

    #: Main head, on the fused features.
    logits: paddle.Tensor
    #: Auxiliary head on the context features at 1/8.
    logits8: paddle.Tensor
    #: Auxiliary head on the context features at 1/16.
    logits16: paddle.Tensor
    #: Detail head on the backbone's features at 1/8: is this pixel on an edge?
    detail_logits: paddle.Tensor


class ContextPath(nn.Layer):
    """The backbone, and its two deepest stages brought back up to 1/8 of the input's size."""

    def __init__(self, backbone: STDCNet) -> None:
        super().__init__()
        self.backbone = backbone
        self.arm16 = AttentionRefinement(CHANNELS[3], CONTEXT_CHANNELS)
        self.arm32 = AttentionRefinement(CHANNELS[4], CONTEXT_CHANNELS)
        self.conv_head32 = DecoderConv(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3)
        self.conv_head16 = DecoderConv(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3)
        self.conv_avg = DecoderConv(CHANNELS[4], CONTEXT_CHANNELS, 1)

    def forward(self, x: paddle.Tensor) -> Tuple[List[paddle.Tensor], paddle.Tensor, paddle.Tensor]:
        """Features for the fusion and for the heads.

        Args:
            x: normalized images, (N, 3, H, W), float32.
        Returns:
            The backbone's five feature maps, (N, CHANNELS[i], H/2^(i+1), W/2^(i+1)); the context features at 1/8,
            (N, 128, H/8, W/8); the context features at 1/16, (N, 128, H/16, W/16). Sizes are rounded up.
        """
        features = self.backbone(x)
        _, _, features8, features16, features32 = features
        # The sum below broadcasts this single pixel; PaddleSeg upsamples it by nearest first, with equal values.
        average = self.conv_avg(F.adaptive_avg_pool2d(features32, 1))  # (N, 128, 1, 1)
        context = self.arm32(features32) + average  # (N, 128, H/32, W/32)
        context = F.interpolate(context, features16.shape[2:], mode="nearest")
        context16 = self.conv_head32(context)  # (N, 128, H/16, W/16)
        context = self.arm16(features16) + context16
        context = F.interpolate(context, features8.shape[2:], mode="nearest")
        context8 = self.conv_head16(context)  # (N, 128, H/8, W/8)
        return features, context8, context16


class Segmentor(nn.Layer):
    """STDC-Seg.

    Args:
        backbone: the feature extractor.
        num_classes: classes of the three segmentation heads.
        unused_heads: build the three heads that PaddleSeg saves and never runs, for an exact exchange of weights.
        upsample_by_products: in training, bring logits to full size by matrix products, see `upsample_by_products`.
    """

    def __init__(
        self, backbone: STDCNet, num_classes: int, unused_heads: bool, upsample_by_products: bool = False
    ) -> None:
        super().__init__()
        self.upsample_by_products = upsample_by_products
        self.cp = ContextPath(backbone)
        self.ffm = FeatureFusion(CHANNELS[2] + CONTEXT_CHANNELS, FUSED_CHANNELS)
        self.conv_out = SegmentationHead(FUSED_CHANNELS, 256, num_classes)
        self.conv_out8 = SegmentationHead(CONTEXT_CHANNELS, 64, num_classes)
        self.conv_out16 = SegmentationHead(CONTEXT_CHANNELS, 64, num_classes)
        # The order of construction is PaddleSeg's: it decides which numbers a seed draws for which head.
        if unused_heads:
            self.conv_out_sp16 = SegmentationHead(UNUSED_HEADS["conv_out_sp16"], 64, 1)
        self.conv_out_sp8 = SegmentationHead(CHANNELS[2], 64, 1)
        if unused_heads:
            self.conv_out_sp4 = SegmentationHead(UNUSED_HEADS["conv_out_sp4"], 64, 1)
            self.conv_out_sp2 = SegmentationHead(UNUSED_HEADS["conv_out_sp2"], 64, 1)

    def forward(self, x: paddle.Tensor) -> Union[SegmentorOutputs, paddle.Tensor]:
        """Logits of normalized images.

        Args:
            x: (N, 3, H, W), float32, any H and W.
        Returns:
            In training `SegmentorOutputs`; in evaluation the main logits, (N, classes, H, W).
        """
        size = x.shape[2:]
        features, context8, context16 = self.cp(x)
        features8 = features[2]
        fused = self.ffm(features8, context8)  # (N, 256, H/8, W/8)
        upsample = upsample_by_products if self.training and self.upsample_by_products else _upsample
        logits = upsample(self.conv_out(fused), size)
        if not self.training:
            return logits
        return SegmentorOutputs(
            logits=logits,
            logits8=upsample(self.conv_out8(context8), size),
            logits16=upsample(self.conv_out16(context16), size),
            detail_logits=self.conv_out_sp8(features8),
        )


def build_segmentor(
    backbone: str = "stdc1",
    num_classes: int = 19,
    unused_heads: bool = False,
    pool_counts_padding: bool = False,
    upsample_by_products: bool = False,
) -> Segmentor:
    """STDC1-Seg or STDC2-Seg with initial weights drawn from Paddle's generator (`paddle.seed`).

    Args:
        backbone: "stdc1" or "stdc2".
        num_classes: classes to tell apart.
        unused_heads: see `Segmentor`.
        pool_counts_padding: the authors' average pooling at image borders instead of PaddleSeg's, see
            `ShortTermDenseConcatenate`. It has no parameters.
        upsample_by_products: see `Segmentor`.
    Raises:
        ValueError: unknown backbone.
    """
    return Segmentor(STDCNet(backbone, pool_counts_padding), num_classes, unused_heads, upsample_by_products)


def is_unused_head_key(key: str) -> bool:
    """True for a parameter of a head that PaddleSeg saves and never runs."""
    return key.split(".", 1)[0] in UNUSED_HEADS


def upsample_by_products(logits: paddle.Tensor, size: Sequence[int]) -> paddle.Tensor:
    """Bilinear upsampling with aligned corners as two matrix products, along the columns and then along the rows.

    Equal to `F.interpolate` but for rounding. Its gradient is two products as well: a third of the time of Paddle's
    kernel on a CPU, and on an accelerator no sum in the order in which threads happen to come.

    Args:
        logits: (N, C, h, w), float32.
        size: height and width to reach.
    Returns:
        (N, C, height, width).
    """
    rows, columns = (
        paddle.to_tensor(_corner_weights(source, target)) for source, target in zip(logits.shape[2:], size)
    )
    return paddle.matmul(rows, paddle.matmul(logits, columns, transpose_y=True))


@functools.lru_cache(maxsize=16)
def _corner_weights(source: int, target: int) -> np.ndarray:
    """Weights (target, source), float32, of linear interpolation between `source` points with aligned corners."""
    # In float32, as Paddle's kernel: rounded positions differ by more than rounded sums.
    position = np.float32(source - 1) / np.float32(max(target - 1, 1)) * np.arange(target, dtype=np.float32)
    low = np.minimum(position.astype(np.int64), source - 1)
    share = (position - low).astype(np.float32)
    weights = np.zeros((target, source), np.float32)
    weights[np.arange(target), low] = 1 - share
    weights[np.arange(target), np.minimum(low + 1, source - 1)] += share
    return weights


def _upsample(logits: paddle.Tensor, size: List[int]) -> paddle.Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)
