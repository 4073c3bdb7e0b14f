"""A training step of each preset and an evaluation, run for the log of the kernels that they use: see `kernels.py`.

Shapes are small and chosen for their branches: many hard pixels and few of them, an image whose sides 32 does not
divide, 8-bit images normalized on the device, and the confusion matrix that is counted there.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from stdc.machine import devices

devices.prepare("cpu", 1)

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from stdc.evaluation.evaluate import confusion_on_device  # noqa: E402
from stdc.nn.segmentor import build_segmentor  # noqa: E402
from stdc.prediction.predict import PaddlePredictor  # noqa: E402
from stdc.prediction.protocols import FULL_SIZE, Protocol  # noqa: E402
from stdc.recipe import resolve  # noqa: E402
from stdc.training.pixels import Normalizer  # noqa: E402
from stdc.training.step import Step  # noqa: E402

random = np.random.RandomState(0)
images = random.randint(0, 256, (4, 3, 64, 96)).astype(np.uint8)
labels = random.randint(0, 19, (4, 64, 96)).astype(np.uint8)
labels[:, :8] = 255

# What is logged before this line is the preparation.
print("BEGIN", file=sys.stderr, flush=True)
for preset in ("paddleseg", "authors"):
    for min_kept in (1, 16000):
        train = {"preset": preset, "iterations": 10, "global_batch": 4, "crop_height": 64, "crop_width": 96,
                 "ohem_min_kept": min_kept, "warmup_iterations": 0, "warmup_start_lr": 0.0}  # fmt: skip
        recipe = resolve(train)
        model = build_segmentor("stdc1", pool_counts_padding=preset == "authors")
        model.train()
        step = Step(model, recipe, seed=0, micro_batch=2)
        normalizer = Normalizer(recipe.augmentation.mean, recipe.augmentation.std)
        for iteration in range(2):
            # The second one reads what the first one computed.
            newest = step(normalizer.gather(images), paddle.to_tensor(labels).astype("int64"), iteration, False)
        newest.read()
        model.eval()
        predictor = PaddlePredictor(model)
        image = random.uniform(-1, 1, (3, 50, 75)).astype(np.float32)
        for train_ids in predictor.predict(image, [FULL_SIZE, Protocol("all", (0.5, 1.0, 1.25), True)]):
            confusion_on_device(labels[0, :50, :75], train_ids)
