"""Weights, images and labels that every implementation can make for itself, from names and numbers alone.

Networks have millions of parameters; instead of storing them, all sides draw the same ones. `RandomState` is frozen:
the same seed gives the same numbers in every NumPy.
"""

from __future__ import annotations

import zlib
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np

CLASSES = 19
IGNORE = 255
#: Sizes for the detail loss: multiples of 8, odd, one side odd.
DETAIL_SIZES = ((64, 128), (67, 97), (33, 40))


def weights(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> Dict[str, np.ndarray]:
    """An array for every name: well-scaled convolutions, batch norms away from their initial values."""
    return {name: _weight(name, tuple(shape), seed) for name, shape in shapes.items()}


def _weight(name: str, shape: Tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    leaf = name.rpartition(".")[2]
    if leaf in ("_variance", "running_var"):
        values = random.uniform(0.5, 2.0, shape)
    elif leaf in ("_mean", "running_mean"):
        values = 0.2 * random.standard_normal(shape)
    elif leaf == "weight" and len(shape) == 1:
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        values = random.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    else:
        values = 0.1 * random.standard_normal(shape)
    return np.asarray(values, dtype=np.float32)


def images(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(N, 3, H, W), float32, normalized images: blobs and noise, each image of its own brightness and contrast.

    The images differ because the attention modules normalize one value per image over the batch: among equal images
    that is a division by nearly nothing, and rounding would be all that is compared.
    """
    random = np.random.RandomState(1000 + seed)
    coarse = random.standard_normal((batch, 3, height // 8 + 1, width // 8 + 1))
    smooth = np.kron(coarse, np.ones((1, 1, 8, 8)))[:, :, :height, :width]
    values = smooth + 0.3 * random.standard_normal((batch, 3, height, width))
    contrast = random.uniform(0.2, 2.0, (batch, 1, 1, 1))
    return np.asarray(contrast * values + random.uniform(-1.5, 1.5, (batch, 3, 1, 1)), dtype=np.float32)


def labels(batch: int, height: int, width: int, seed: int = 0, ignored: float = 0.1) -> np.ndarray:
    """(N, H, W), int64: rectangles of classes, some of them ignored."""
    random = np.random.RandomState(2000 + seed)
    coarse = random.randint(0, CLASSES, (batch, height // 8 + 1, width // 8 + 1))
    coarse[random.uniform(size=coarse.shape) < ignored] = IGNORE
    return np.kron(coarse, np.ones((1, 8, 8), dtype=np.int64))[:, :height, :width]


def logits(batch: int, height: int, width: int, seed: int = 0, sharpness: float = 3.0) -> np.ndarray:
    """(N, 19, H, W), float32."""
    random = np.random.RandomState(3000 + seed)
    return np.asarray(sharpness * random.standard_normal((batch, CLASSES, height, width)), dtype=np.float32)


def confident_logits(train_id: np.ndarray, seed: int = 0, margin: float = 8.0) -> np.ndarray:
    """Logits that agree with the labels except at a few pixels: what a network gives late in training."""
    random = np.random.RandomState(4000 + seed)
    batch, height, width = train_id.shape
    values = random.standard_normal((batch, CLASSES, height, width))
    known = np.where(train_id == IGNORE, 0, train_id)
    np.put_along_axis(values, known[:, None], margin, axis=1)
    wrong = random.uniform(size=train_id.shape) < 0.01
    np.put_along_axis(values, known[:, None], np.where(wrong, -2.0, margin)[:, None], axis=1)
    return np.asarray(values, dtype=np.float32)


def ohem_cases() -> Dict[str, Tuple[np.ndarray, np.ndarray, int]]:
    """Inputs for the mining losses; each aims at one branch of the rule."""
    train_id = labels(2, 40, 48)
    sure = confident_logits(train_id)
    tied = np.round(sure[:, :, :1, :1]).repeat(40, 2).repeat(48, 3)
    tied_id = np.full_like(train_id, int(tied[0, :, 0, 0].argmax()))
    saturated = 40.0 * (sure > 4.0).astype(np.float32)
    labeled = int((train_id != IGNORE).sum())
    even = np.zeros((1, CLASSES, 16, 16), np.float32)
    even[:, 2:] = -1e4
    return {
        "most pixels hard": (logits(2, 40, 48), train_id, 500),
        "fewer hard than kept": (sure, train_id, 1000),
        "one fewer hard than kept": (sure, train_id, _hard(sure, train_id) + 1),
        "as many hard as kept": (sure, train_id, _hard(sure, train_id)),
        "all pixels tied": (tied, tied_id, 700),
        "predictions saturated": (saturated, train_id, 1500),
        "as many labeled as kept": (sure, train_id, labeled),
        "fewer labeled than kept": (sure, train_id, labeled + 7),
        "every pixel ignored": (sure, np.full_like(train_id, IGNORE), 1000),
        "one image ignored": (sure, np.stack([train_id[0], np.full_like(train_id[1], IGNORE)]), 1000),
        "probability one half": (even, np.zeros((1, 16, 16), np.int64), 100),
    }


def ohem_threshold(case: str) -> float:
    """The threshold of a case: the published one, except where a probability meets it exactly."""
    return 0.5 if case == "probability one half" else 0.7


def detail_case(height: int, width: int) -> Tuple[np.ndarray, np.ndarray]:
    """(detail logits at 1/8, labels)."""
    return logits(2, -(-height // 8), -(-width // 8))[:, :1], labels(2, height, width)


def _hard(values: np.ndarray, train_id: np.ndarray, threshold: float = 0.7) -> int:
    exponents = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    known = np.where(train_id == IGNORE, 0, train_id)
    share = np.take_along_axis(exponents / exponents.sum(axis=1, keepdims=True), known[:, None], axis=1)[:, 0]
    return int(((share < threshold) & (train_id != IGNORE)).sum())


def digest(name: str, values: np.ndarray, samples: int = 64) -> np.ndarray:
    """A few numbers that stand for an array: mean, norm, projection on a fixed vector, and sampled entries."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    random = np.random.RandomState(zlib.crc32(name.encode()))
    projection = float(flat @ random.standard_normal(flat.size)) / np.sqrt(flat.size)
    picked = flat[random.randint(0, flat.size, samples)]
    return np.concatenate([[flat.mean(), np.sqrt((flat**2).mean()), projection], picked])
