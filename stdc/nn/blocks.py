"""Blocks of STDC-Seg, named so that PaddleSeg's parameter names come out.

Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021: the short-term dense concatenate module
is section 3.1, the decoder's blocks are those of BiSeNet (Yu et al., ECCV 2018), section 3.

Attribute names such as `_conv` and `_batch_norm` are part of the weights' format: PaddleSeg 2.7 has two kinds of
convolution block and they spell their parts differently.
"""

from __future__ import annotations

from typing import List

import paddle
import paddle.nn.functional as F
from paddle import nn


class BackboneConv(nn.Layer):
    """Convolution without bias, batch norm, ReLU; parameters `conv.*` and `bn.*`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias_attr=False
        )
        self.bn = nn.BatchNorm2D(out_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Non-negative features.

        Args:
            x: (N, in_channels, H, W), float32.
        Returns:
            (N, out_channels, H/stride, W/stride), sizes rounded up.
        """
        return F.relu(self.bn(self.conv(x)))


class DecoderConv(nn.Layer):
    """Convolution, batch norm, ReLU; parameters `_conv.*` and `_batch_norm.*`.

    The convolution has a bias although batch norm cancels it: PaddleSeg's weights contain it.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self._conv = nn.Conv2D(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self._batch_norm = nn.BatchNorm2D(out_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Non-negative features of the input's size.

        Args:
            x: (N, in_channels, H, W), float32.
        Returns:
            (N, out_channels, H, W).
        """
        return F.relu(self._batch_norm(self._conv(x)))


class ShortTermDenseConcatenate(nn.Layer):
    """The STDC module ("cat" variant): four convolutions of falling width, all their outputs concatenated.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, C. The four parts have C/2, C/4, C/8 and C/8 channels.
        stride: 1 or 2. With 2 a depthwise convolution halves the size before the second part, and the first part is
            average-pooled to the same size.
        pool_counts_padding: divide by 9 at the image border too, as the authors' torch code does. PaddleSeg divides by
            the number of pixels inside the image.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, pool_counts_padding: bool = False) -> None:
        super().__init__()
        half, quarter, eighth = out_channels // 2, out_channels // 4, out_channels // 8
        # Registered before it is filled, because parameters are listed in order of registration, and the order of
        # PaddleSeg decides which numbers a seed draws for which layer.
        self.conv_list = nn.LayerList()
        self.stride = stride
        if stride == 2:
            self.avd_layer = nn.Sequential(
                nn.Conv2D(half, half, 3, stride=2, padding=1, groups=half, bias_attr=False),
                nn.BatchNorm2D(half),
            )
            self.skip = nn.AvgPool2D(3, stride=2, padding=1, exclusive=not pool_counts_padding)
        self.conv_list.append(BackboneConv(in_channels, half, 1))
        self.conv_list.append(BackboneConv(half, quarter, 3))
        self.conv_list.append(BackboneConv(quarter, eighth, 3))
        self.conv_list.append(BackboneConv(eighth, eighth, 3))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """The four parts side by side.

        Args:
            x: (N, in_channels, H, W), float32.
        Returns:
            (N, C, H/stride, W/stride), sizes rounded up; channels in the order of the parts.
        """
        first = self.conv_list[0](x)  # (N, C/2, H, W)
        part = first
        if self.stride == 2:
            part = self.avd_layer(first)  # (N, C/2, H/2, W/2)
            first = self.skip(first)  # (N, C/2, H/2, W/2)
        parts: List[paddle.Tensor] = [first]
        for conv in self.conv_list[1:]:
            part = conv(part)
            parts.append(part)
        return paddle.concat(parts, axis=1)  # (N, C, H/stride, W/stride)


class AttentionRefinement(nn.Layer):
    """Convolves, then scales each channel by an attention in (0, 1) computed from all channels' global averages."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DecoderConv(in_channels, out_channels, 3)
        self.conv_atten = nn.Conv2D(out_channels, out_channels, 1)
        self.bn_atten = nn.BatchNorm2D(out_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Features of the input's size.

        Args:
            x: (N, in_channels, H, W), float32.
        Returns:
            (N, out_channels, H, W).
        """
        features = self.conv(x)
        attention = F.adaptive_avg_pool2d(features, 1)  # (N, C, 1, 1)
        attention = F.sigmoid(self.bn_atten(self.conv_atten(attention)))
        return features * attention


class FeatureFusion(nn.Layer):
    """Fuses the detail features of the backbone with the features of the context path."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convblk = DecoderConv(in_channels, out_channels, 1)
        self.conv1 = nn.Conv2D(out_channels, out_channels // 4, 1)
        self.conv2 = nn.Conv2D(out_channels // 4, out_channels, 1)

    def forward(self, detail: paddle.Tensor, context: paddle.Tensor) -> paddle.Tensor:
        """Fused features.

        Args:
            detail: (N, C1, H, W), float32.
            context: (N, C2, H, W), float32; C1 + C2 = in_channels.
        Returns:
            (N, out_channels, H, W).
        """
        features = self.convblk(paddle.concat([detail, context], axis=1))
        attention = F.adaptive_avg_pool2d(features, 1)  # (N, C, 1, 1)
        attention = F.sigmoid(self.conv2(F.relu(self.conv1(attention))))
        return features * attention + features


class SegmentationHead(nn.Layer):
    """Logits for `classes` classes at the resolution of its input."""

    def __init__(self, in_channels: int, mid_channels: int, classes: int) -> None:
        super().__init__()
        self.conv = DecoderConv(in_channels, mid_channels, 3)
        self.conv_out = nn.Conv2D(mid_channels, classes, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Logits.

        Args:
            x: (N, in_channels, H, W), float32.
        Returns:
            (N, classes, H, W).
        """
        return self.conv_out(self.conv(x))
