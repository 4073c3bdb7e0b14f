"""The published recipes, chosen by the key `train.preset` and compared side by side by `tools/recipe_diff.py`.

* ``paddleseg``: PaddleSeg 2.7, ``configs/stdcseg/stdc1_seg_cityscapes_1024x512_80k.yml``; the published 0.7466 on
  BI-V100 cards belongs to it.
* ``authors``: the paper's code, github.com/MichaelFan01/STDC-Seg, ``train.py`` and ``cityscapes.py``.
"""

from __future__ import annotations

from typing import Any, Dict

#: Values of the `train` section that a preset governs. Sources: the two configurations named above.
PRESETS: Dict[str, Dict[str, Any]] = {
    "paddleseg": {
        "base_lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 4e-5,
        "weight_decay_on_norm_and_bias": True,
        "head_lr_factor": 1.0,
        "poly_power": 0.9,
        "end_lr": 0.0,
        "warmup_iterations": 0,
        "warmup_start_lr": 0.0,
        "pipeline": "paddleseg",
        "scale_min": 0.5,
        "scale_max": 2.0,
        "scale_step": 0.25,
        "small_image": "pad",
        "pad_value": 127.5,
        "flip_probability": 0.5,
        "distort": "paddleseg",
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        # The configuration does not name the hue, so RandomDistort's own default acts: 18/256 of a turn, half the time.
        "hue": 18.0,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "ohem_rule": "paddleseg",
        "ohem_threshold": 0.7,
        "ohem_min_kept": 10000,
        "detail_weight": 1.0,
    },
    "authors": {
        "base_lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "weight_decay_on_norm_and_bias": False,
        "head_lr_factor": 10.0,
        "poly_power": 0.9,
        "end_lr": 0.0,
        "warmup_iterations": 1000,
        "warmup_start_lr": 1e-5,
        "pipeline": "authors",
        "scale_min": 0.125,
        "scale_max": 1.5,
        "scale_step": 0.125,
        "small_image": "upscale",
        "pad_value": 0.0,
        "flip_probability": 0.5,
        "distort": "authors",
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
        "hue": 0.0,
        # Of ImageNet, as torchvision states them.
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "ohem_rule": "authors",
        "ohem_threshold": 0.7,
        "ohem_min_kept": "pixels/16",
        "detail_weight": 1.0,
    },
}
