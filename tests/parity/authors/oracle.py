"""The authors' network and losses, stated again in torch from github.com/MichaelFan01/STDC-Seg.

A second opinion on everything that PaddleSeg might have changed. Parameter names are the authors', so that files made
here look like their checkpoints; widths can be divided, so that such files can be small. The code is our own.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

DEPTHS = {"stdc1": (2, 2, 2), "stdc2": (4, 5, 3)}
IGNORE = 255


class InPlaceNorm(nn.BatchNorm2d):
    """What in-place activated batch norm without activation computes: the scale is |weight| + eps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight.abs() + self.eps
        return F.batch_norm(
            x, self.running_mean, self.running_var, scale, self.bias, self.training, self.momentum, self.eps
        )


class ConvX(nn.Module):
    """Backbone block."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class CatBottleneck(nn.Module):
    """The short-term dense concatenate module."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv_list = nn.ModuleList(
            [
                ConvX(before, after // 2, 1),
                ConvX(after // 2, after // 4),
                ConvX(after // 4, after // 8),
                ConvX(after // 8, after // 8),
            ]
        )
        self.stride = stride
        if stride == 2:
            half = after // 2
            self.avd_layer = nn.Sequential(
                nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False), nn.BatchNorm2d(half)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.conv_list[0](x)
        second = self.conv_list[1](self.avd_layer(first) if self.stride == 2 else first)
        third = self.conv_list[2](second)
        fourth = self.conv_list[3](third)
        if self.stride == 2:
            # torch counts the padding into the average.
            first = F.avg_pool2d(first, 3, 2, 1)
        return torch.cat([first, second, third, fourth], dim=1)


class STDCNet(nn.Module):
    """Backbone with the classifier's parameters, and every stage under a second name, as in authors' state dicts."""

    def __init__(self, name: str, divide: int = 1) -> None:
        super().__init__()
        widths = [width // divide for width in (32, 64, 256, 512, 1024)]
        layers: List[nn.Module] = [ConvX(3, widths[0], 3, 2), ConvX(widths[0], widths[1], 3, 2)]
        ends = [1, 2]
        for stage, depth in enumerate(DEPTHS[name]):
            for index in range(depth):
                before = widths[stage + 1] if index == 0 else widths[stage + 2]
                layers.append(CatBottleneck(before, widths[stage + 2], 2 if index == 0 else 1))
            ends.append(len(layers))
        self.features = nn.Sequential(*layers)
        self.conv_last = ConvX(widths[4], widths[4], 1)
        self.fc = nn.Linear(widths[4], widths[4], bias=False)
        self.bn = nn.BatchNorm1d(widths[4])
        self.linear = nn.Linear(widths[4], 1000 // divide, bias=False)
        for stage_name, start, end in zip(("x2", "x4", "x8", "x16", "x32"), [0, *ends], ends):
            setattr(self, stage_name, nn.Sequential(self.features[start:end]))

    def forward(self, x: torch.Tensor) -> List[torch.Tensor]:
        found = []
        for stage in (self.x2, self.x4, self.x8, self.x16, self.x32):
            x = stage(x)
            found.append(x)
        return found


class ConvBNReLU(nn.Module):
    """Decoder block."""

    def __init__(self, before: int, after: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        self.bn = InPlaceNorm(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class BiSeNetOutput(nn.Module):
    """Head."""

    def __init__(self, before: int, middle: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(before, middle)
        self.conv_out = nn.Conv2d(middle, classes, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_out(self.conv(x))


class AttentionRefinementModule(nn.Module):
    """Channel attention."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(before, after)
        self.conv_atten = nn.Conv2d(after, after, 1, bias=False)
        self.bn_atten = InPlaceNorm(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))))


class ContextPath(nn.Module):
    """Backbone and the way back up."""

    def __init__(self, name: str, divide: int) -> None:
        super().__init__()
        middle = 128 // divide
        self.backbone = STDCNet(name, divide)
        self.arm16 = AttentionRefinementModule(512 // divide, middle)
        self.arm32 = AttentionRefinementModule(1024 // divide, middle)
        self.conv_head32 = ConvBNReLU(middle, middle)
        self.conv_head16 = ConvBNReLU(middle, middle)
        self.conv_avg = ConvBNReLU(1024 // divide, middle, 1)

    def forward(self, x: torch.Tensor) -> Tuple[List[torch.Tensor], torch.Tensor, torch.Tensor]:
        features = self.backbone(x)
        at8, at16, at32 = features[2:]
        average = self.conv_avg(at32.mean((2, 3), keepdim=True))
        deep = self.arm32(at32) + F.interpolate(average, at32.shape[2:], mode="nearest")
        context16 = self.conv_head32(F.interpolate(deep, at16.shape[2:], mode="nearest"))
        middle = self.arm16(at16) + context16
        context8 = self.conv_head16(F.interpolate(middle, at8.shape[2:], mode="nearest"))
        return features, context8, context16


class FeatureFusionModule(nn.Module):
    """Fusion of detail and context."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(before, after, 1)
        self.conv1 = nn.Conv2d(after, after // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(after // 4, after, 1, bias=False)

    def forward(self, detail: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = self.convblk(torch.cat([detail, context], dim=1))
        attention = torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))))
        return x * attention + x


class BiSeNet(nn.Module):
    """The authors' STDC-Seg with its detail head at 1/8 (`use_boundary_8`).

    Args:
        name: "stdc1" or "stdc2".
        divide: every width is divided by this (8 at most), for small files.
    """

    def __init__(self, name: str, divide: int = 1) -> None:
        super().__init__()
        self.cp = ContextPath(name, divide)
        self.ffm = FeatureFusionModule(384 // divide, 256 // divide)
        self.conv_out = BiSeNetOutput(256 // divide, 256 // divide, 19)
        self.conv_out16 = BiSeNetOutput(128 // divide, 64 // divide, 19)
        self.conv_out32 = BiSeNetOutput(128 // divide, 64 // divide, 19)
        self.conv_out_sp16 = BiSeNetOutput(512 // divide, 64 // divide, 1)
        self.conv_out_sp8 = BiSeNetOutput(256 // divide, 64 // divide, 1)
        self.conv_out_sp4 = BiSeNetOutput(64 // divide, 64 // divide, 1)
        self.conv_out_sp2 = BiSeNetOutput(32 // divide, 64 // divide, 1)

    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        """Main, two auxiliary and detail logits."""
        size = x.shape[2:]
        features, context8, context16 = self.cp(x)
        fused = self.ffm(features[2], context8)
        heads = (self.conv_out(fused), self.conv_out16(context8), self.conv_out32(context16))
        full = [F.interpolate(head, size, mode="bilinear", align_corners=True) for head in heads]
        return (*full, self.conv_out_sp8(features[2]))


def ohem_loss(logits: torch.Tensor, train_id: torch.Tensor, threshold: float, n_min: int) -> torch.Tensor:
    """The authors' mining rule, with the full sort that they use."""
    losses = F.cross_entropy(logits, train_id, ignore_index=IGNORE, reduction="none").reshape(-1)
    losses = losses.sort(descending=True).values
    limit = -torch.log(torch.tensor(threshold, dtype=torch.float))
    return losses[losses > limit].mean() if losses[n_min] > limit else losses[:n_min].mean()


def detail_target(train_id: torch.Tensor) -> torch.Tensor:
    """Edges by Laplacians at three strides, fused by a 1x1 convolution with 0.6, 0.3 and 0.1."""
    kernel = -torch.ones(1, 1, 3, 3)
    kernel[0, 0, 1, 1] = 8.0
    maps: List[torch.Tensor] = []
    for stride in (1, 2, 4):
        response = F.conv2d(train_id[:, None].float(), kernel, stride=stride, padding=1).clamp(min=0)
        maps.append((F.interpolate(response, train_id.shape[1:], mode="nearest") > 0.1).float())
    fused = F.conv2d(torch.cat(maps, dim=1), torch.tensor([0.6, 0.3, 0.1]).reshape(1, 3, 1, 1))
    return (fused > 0.1).float()


def detail_loss(logits: torch.Tensor, train_id: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """(binary cross entropy, Dice)."""
    target = detail_target(train_id)
    logits = F.interpolate(logits, target.shape[2:], mode="bilinear", align_corners=True)
    share, flat = torch.sigmoid(logits).flatten(1), target.flatten(1)
    overlap = (share * flat).sum(1)
    dice = 1 - (2 * overlap + 1) / (share.sum(1) + flat.sum(1) + 1)
    return F.binary_cross_entropy_with_logits(logits, target), dice.mean()


def learning_rates(iterations: int, steps: Sequence[int]) -> List[float]:
    """The authors' schedule: exponential warm-up from 1e-5 over 1000 steps, then poly 0.9 to zero."""
    warmup, start, top = 1000, 1e-5, 1e-2
    rates = []
    for step in steps:
        if step <= warmup:
            rates.append(start * ((top / start) ** (1.0 / warmup)) ** step)
        else:
            rates.append(top * (1 - (step - warmup) / (float(iterations) - warmup)) ** 0.9)
    return rates
