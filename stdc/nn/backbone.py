"""STDC backbones.

Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021, section 3.1 and table 2. Parameter
names follow PaddleSeg, so that its published weights load.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

import paddle
from paddle import nn

from stdc.nn.blocks import BackboneConv, ShortTermDenseConcatenate

#: Modules in stages 3, 4 and 5.
STAGE_DEPTHS: Dict[str, Tuple[int, int, int]] = {"stdc1": (2, 2, 2), "stdc2": (4, 5, 3)}

#: Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size.
CHANNELS = (32, 64, 256, 512, 1024)

#: Standard deviation of the initial convolution weights; PaddleSeg's value.
INITIAL_STD = 0.001


class STDCNet(nn.Layer):
    """STDC1 or STDC2 without the ImageNet classifier.

    Args:
        name: "stdc1" or "stdc2".
        pool_counts_padding: see `ShortTermDenseConcatenate`.
    """

    def __init__(self, name: str, pool_counts_padding: bool = False) -> None:
        super().__init__()
        if name not in STAGE_DEPTHS:
            raise ValueError(f"backbone {name!r} is not one of {', '.join(sorted(STAGE_DEPTHS))}")
        self.depths = STAGE_DEPTHS[name]
        layers: List[nn.Layer] = [
            BackboneConv(3, CHANNELS[0], 3, stride=2),
            BackboneConv(CHANNELS[0], CHANNELS[1], 3, 2),
        ]
        for stage, depth in enumerate(self.depths):
            before, after = CHANNELS[stage + 1], CHANNELS[stage + 2]
            layers.append(ShortTermDenseConcatenate(before, after, 2, pool_counts_padding))
            layers.extend(ShortTermDenseConcatenate(after, after, 1) for _ in range(depth - 1))
        self.features = nn.Sequential(*layers)
        self._initialize()

    def _initialize(self) -> None:
        # Draws anew over the weights that Paddle has drawn already. PaddleSeg does the same in the same order, so equal
        # seeds give equal weights, bit for bit.
        normal = nn.initializer.Normal(std=INITIAL_STD)
        for layer in self.sublayers():
            if isinstance(layer, nn.Conv2D):
                normal(layer.weight, layer.weight.block)

    def forward(self, x: paddle.Tensor) -> List[paddle.Tensor]:
        """Five feature maps.

        Args:
            x: normalized images, (N, 3, H, W), float32.
        Returns:
            Features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size, sizes rounded up: (N, CHANNELS[i], …).
        """
        stage_ends = [0, 1]
        for depth in self.depths:
            stage_ends.append(stage_ends[-1] + depth)
        features: List[paddle.Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in stage_ends:
                features.append(x)
        return features
