"""Losses of STDC-Seg: hard example mining on three heads, detail aggregation on the fourth.

Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021, section 3.3. Two mining rules exist in
published code, PaddleSeg's (`OhemCrossEntropyLoss`) and the authors' (`OhemCELoss`); they keep different pixels and
divide by different counts, so both are stated here.
"""

from __future__ import annotations

import functools
import math
from typing import Callable, Dict, List, Sequence, Tuple

import numpy as np
import paddle
import paddle.nn.functional as F

from stdc.nn.segmentor import SegmentorOutputs
from stdc.recipe import Losses

#: The train_id of pixels that no loss looks at.
IGNORE = 255

#: Added to the share of kept pixels, so that a batch without any gives 0; PaddleSeg's value.
KEPT_EPSILON = 1e-5

#: Weights of the edge maps taken with stride 1, 2 and 4, and the sum above which a pixel is an edge. The paper calls
#: the weights trainable; in the authors' code no gradient ever reaches them. PaddleSeg draws them at random.
FUSION_WEIGHTS = (0.6, 0.3, 0.1)
EDGE_THRESHOLD = 0.1

#: Added to both parts of the Dice quotient, so that an image without edges gives a finite loss.
DICE_SMOOTH = 1.0

#: Brings counts, (K,), int64, from the device to the host, in one transfer.
ReadCounts = Callable[[paddle.Tensor], List[int]]

_LAPLACIAN = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], dtype=np.float32).reshape(1, 1, 3, 3)


def read_counts(counts: paddle.Tensor) -> List[int]:
    """Counts, (K,), on the host; waits until the device has them."""
    return [int(count) for count in counts.numpy().ravel()]


def segmentation_loss(
    outputs: SegmentorOutputs, train_id: paddle.Tensor, losses: Losses, read: ReadCounts = read_counts
) -> Tuple[paddle.Tensor, Dict[str, paddle.Tensor]]:
    """The loss of a training step.

    Args:
        outputs: what the network returned in training mode.
        train_id: (N, H, W), integers, 255 = ignored.
        losses: the recipe's part; its least number of kept pixels is of this batch.
        read: called once, for the counts that decide which pixels are mined.
    Returns:
        The sum to minimize, and its parts without gradient for logging: "loss", "ohem", "ohem8", "ohem16",
        "detail_bce", "detail_dice", and "edge_share", the fraction of pixels that are edges.
    """
    min_kept = losses.min_kept(math.prod(train_id.shape))
    heads = [_pixel_losses(logits, train_id) for logits in (outputs.logits, outputs.logits8, outputs.logits16)]
    ohem = _mined_means(heads, train_id, losses.ohem_threshold, min_kept, losses.ohem_rule, read)
    edges = detail_target(train_id)
    bce, dice = detail_loss(outputs.detail_logits, edges)
    total = ohem[0] + ohem[1] + ohem[2] + losses.detail_weight * (bce + dice)
    parts = {
        "loss": total,
        "ohem": ohem[0],
        "ohem8": ohem[1],
        "ohem16": ohem[2],
        "detail_bce": bce,
        "detail_dice": dice,
        "edge_share": edges.mean(),
    }
    return total, {name: value.detach() for name, value in parts.items()}


def ohem_cross_entropy(
    logits: paddle.Tensor, train_id: paddle.Tensor, threshold: float, min_kept: int, rule: str = "paddleseg"
) -> paddle.Tensor:
    """Cross entropy over the hard pixels of a batch.

    Hard means: the true class has a probability below `threshold`. The comparison is made on the losses themselves,
    loss > -ln(threshold), which needs neither the probabilities nor a sort.

    When fewer than `min_kept` pixels are hard, the hardest are taken instead:

    * "paddleseg": pixels strictly harder than the `min_kept`-th hardest, ties with it dropped. With no more than
      `min_kept` labeled pixels all of those count. The sum is divided by kept + 1e-5 * all pixels.
    * "authors": exactly the `min_kept` hardest. Ignored pixels have loss 0 and may be among them. The mean is plain.

    Args:
        logits: (N, C, H, W).
        train_id: (N, H, W), integers, 255 = ignored.
        threshold: a probability in (0, 1).
        min_kept: pixels of the batch.
        rule: "paddleseg" or "authors".
    Returns:
        A scalar; 0 where every pixel is ignored.
    Raises:
        ValueError: unknown rule, or `min_kept` below 1.
    """
    if rule not in ("paddleseg", "authors"):
        raise ValueError(f"OHEM rule {rule!r} is neither 'paddleseg' nor 'authors'")
    if min_kept < 1:
        raise ValueError(f"OHEM keeps at least 1 pixel, not {min_kept}")
    return _mined_means([_pixel_losses(logits, train_id)], train_id, threshold, min_kept, rule)[0]


def detail_target(train_id: paddle.Tensor) -> paddle.Tensor:
    """Where class borders are: 1 on edges, 0 elsewhere; (N, 1, H, W), float32, without gradient.

    A Laplacian over the labels taken at strides 1, 2 and 4, brought back to full size, weighted and thresholded. Edges
    seen at stride 4 alone weigh exactly the threshold and so are off, as in the authors' code. The value 255 of ignored
    pixels enters like any other, so the rim of an ignored region is an edge.

    Args:
        train_id: (N, H, W), integers.
    """
    with paddle.no_grad():
        labels = train_id.astype("float32").unsqueeze(1)  # (N, 1, H, W)
        kernel = _laplacian(paddle.device.get_device())
        size = labels.shape[2:]
        fused = paddle.zeros_like(labels)
        for stride, weight in zip((1, 2, 4), FUSION_WEIGHTS):
            # Sums of integers below 2^24: exact in float32, so any positive value is at least 1.
            response = F.conv2d(labels, kernel, stride=stride, padding=1)
            edges = (response > EDGE_THRESHOLD).astype("float32")
            if stride > 1:
                edges = F.interpolate(edges, size, mode="nearest")
            fused = fused + weight * edges
        return (fused > EDGE_THRESHOLD).astype("float32")


@functools.lru_cache(maxsize=None)
def _laplacian(device: str) -> paddle.Tensor:
    """On the device once: each copy there would wait for all it was asked for before."""
    return paddle.to_tensor(_LAPLACIAN)


def detail_loss(detail_logits: paddle.Tensor, edges: paddle.Tensor) -> Tuple[paddle.Tensor, paddle.Tensor]:
    """Binary cross entropy and Dice loss of the detail head.

    Args:
        detail_logits: (N, 1, h, w); resized to the edges' size.
        edges: (N, 1, H, W), see `detail_target`.
    Returns:
        (bce, dice), two scalars, each a mean: over pixels, over images.
    """
    if detail_logits.shape[2:] != edges.shape[2:]:
        detail_logits = F.interpolate(detail_logits, edges.shape[2:], mode="bilinear", align_corners=True)
    bce = F.binary_cross_entropy_with_logits(detail_logits, edges)
    probability = F.sigmoid(detail_logits).flatten(1)  # (N, H*W)
    target = edges.flatten(1)
    overlap = (probability * target).sum(axis=1)
    sizes = probability.sum(axis=1) + target.sum(axis=1)
    dice = (1.0 - (2.0 * overlap + DICE_SMOOTH) / (sizes + DICE_SMOOTH)).mean()
    return bce, dice


def _pixel_losses(logits: paddle.Tensor, train_id: paddle.Tensor) -> paddle.Tensor:
    """Cross entropy of each pixel, (N*H*W,); 0 where the pixel is ignored."""
    losses = F.cross_entropy(
        logits, train_id.astype("int64").unsqueeze(1), ignore_index=IGNORE, reduction="none", axis=1
    )
    return losses.flatten()


def _mined_means(
    heads: Sequence[paddle.Tensor],
    train_id: paddle.Tensor,
    threshold: float,
    min_kept: int,
    rule: str,
    read: ReadCounts = read_counts,
) -> List[paddle.Tensor]:
    """The mean over the hard pixels of each of several heads' pixel losses; see `ohem_cross_entropy`."""
    # Round the threshold to float32 first, so that a pixel exactly at it is not counted as hard.
    hard_loss = float(-np.log(np.float32(threshold)))
    # Compared after flattening: Paddle 2.4 cannot flatten booleans.
    labeled = train_id.flatten() != IGNORE
    hard = [losses > hard_loss for losses in heads]
    # Which rule applies depends on the counts. One transfer from the device for all of them: each one would stall it.
    counts = paddle.stack([mask.astype("int64").sum() for mask in (*hard, labeled)])
    *hard_pixels, labeled_pixels = read(counts)
    if rule == "authors":
        return [_authors_mean(losses, mask, count, min_kept) for losses, mask, count in zip(heads, hard, hard_pixels)]
    return [
        _paddleseg_mean(losses, labeled if labeled_pixels <= min_kept else mask, count, labeled_pixels, min_kept)
        for losses, mask, count in zip(heads, hard, hard_pixels)
    ]


def _paddleseg_mean(
    losses: paddle.Tensor, kept: paddle.Tensor, hard_pixels: int, labeled_pixels: int, min_kept: int
) -> paddle.Tensor:
    if hard_pixels < min_kept < labeled_pixels:
        # Ignored pixels have loss 0. Since min_kept is less than the number of labeled pixels, they are never above the
        # min_kept-th largest loss.
        kept = losses > paddle.topk(losses.detach(), min_kept)[0][-1]
    kept = kept.astype(losses.dtype)
    return (losses * kept).mean() / (kept.mean() + KEPT_EPSILON)


def _authors_mean(losses: paddle.Tensor, hard: paddle.Tensor, hard_pixels: int, min_kept: int) -> paddle.Tensor:
    if hard_pixels > min_kept:
        return (losses * hard.astype(losses.dtype)).sum() / hard_pixels
    return paddle.topk(losses, min(min_kept, losses.shape[0]))[0].mean()
