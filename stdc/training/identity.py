"""The run hash: everything that changes the trained weights, and nothing else.

It names the run folder, so a changed hyper-parameter never resumes an old run, while a new log interval, another number
of data workers, an edited comment, or another version of Python does not throw a run away.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from stdc import files
from stdc.machine import devices
from stdc.stages import TrainStage
from stdc.training.code_digest import code_sha256

_PACKAGE = Path(__file__).resolve().parents[1]

#: Code that decides the final weights: a step and what it calls, what it is fed with, and what is drawn from what.
STEP_CODE = (
    "data/dataset.py",
    "data/distortions.py",
    "data/hue.py",
    "data/scaled_crop.py",
    "data/transforms.py",
    "nn/backbone.py",
    "nn/blocks.py",
    "nn/losses.py",
    "nn/segmentor.py",
    "nn/state.py",
    "nn/sync_batch_norm.py",
    "seeds.py",
    "training/loss_scale.py",
    "training/moving_average.py",
    "training/optimizer.py",
    "training/pixels.py",
    "training/sampler.py",
    "training/schedule.py",
    "training/step.py",
)

#: Code that, beside it, decides which weights are the best.
EVALUATION_CODE = (
    "evaluation/counts.py",
    "evaluation/evaluate.py",
    "evaluation/metrics.py",
    "prediction/predict.py",
    "prediction/predictor.py",
    "prediction/protocols.py",
)


def run_identity(
    stage: TrainStage,
    *,
    seed: int,
    world_size: int,
    micro_batch: int,
    portable_sync_batch_norm: bool,
    threads: int,
    device: str,
    inputs: Mapping[str, Optional[str]],
) -> Dict[str, Any]:
    """What the run hash is made of.

    Args:
        stage: network, recipe, and how the best weights are chosen.
        micro_batch: images per forward pass.
        portable_sync_batch_norm: whether ranks synchronize batch norms by collectives of ours.
        threads: CPU threads per process.
        device: kind of device.
        inputs: SHA-256 by name: manifest, lists, what the label rasters show, weights to start from (None: random
            initialization). Where they lie does not count, nor how the rasters are compressed.
    """
    import cv2
    import numpy
    import paddle
    import PIL

    evaluated = stage.loop.evaluate
    return {
        "recipe": stage.recipe.as_dict(),
        "network": dataclasses.asdict(stage.network),
        "seed": seed,
        "world_size": world_size,
        "micro_batch": micro_batch,
        "sync_batch_norm": None if world_size == 1 else "portable" if portable_sync_batch_norm else "paddle",
        "device": device,
        # On a CPU sums are split over threads, so another count gives other last bits.
        "threads": threads if devices.splits_sums(device) else None,
        "evaluate_every": stage.loop.eval_interval if evaluated else None,
        "inputs": dict(inputs),
        "code": code_sha256(_PACKAGE, STEP_CODE),
        "evaluation_code": code_sha256(_PACKAGE, EVALUATION_CODE) if evaluated else None,
        "paddle": paddle.__version__,
        "numpy": numpy.__version__,
        # OpenCV and Pillow decode, scale and color the crops, and draw the label rasters.
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "amd_kernels": os.environ.get(devices.AMD_VARIABLE) if devices.splits_sums(device) else None,
    }


def run_hash(identity: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a run's identity."""
    return files.sha256_text(files.canonical_json(identity))
