"""The effective recipe: presets, overrides, batch arithmetic."""

import pytest

from stdc import recipe
from stdc.errors import InputError

PLAIN = {"preset": "paddleseg", "iterations": 100, "global_batch": 96, "crop_height": 512, "crop_width": 1024}


def test_preset_fills_what_is_null_and_nothing_else():
    resolved = recipe.resolve({**PLAIN, "base_lr": 0.02, "momentum": None})
    assert (resolved.base_lr, resolved.momentum, resolved.weight_decay) == (0.02, 0.9, 4e-5)


def test_one_key_switches_between_the_published_recipes():
    authors = recipe.resolve({**PLAIN, "preset": "authors", "iterations": 60000, "global_batch": 48})
    # Values of the authors' train.py, cityscapes.py and optimizer_loss.py.
    assert authors.weight_decay == 5e-4 and not authors.weight_decay_on_norm_and_bias
    assert (authors.warmup_iterations, authors.warmup_start_lr, authors.head_lr_factor) == (1000, 1e-5, 10.0)
    assert (authors.scale_min, authors.scale_max, authors.scale_step) == (0.125, 1.5, 0.125)
    assert authors.mean == (0.485, 0.456, 0.406)
    # 16 images of 1024x512 on each of 3 devices: 16 * 1024 * 512 / 16.
    assert recipe.min_kept(authors, 16) == 524288


def test_global_batch_is_divided_or_refused():
    resolved = recipe.resolve(PLAIN)
    assert recipe.per_device_batch(resolved, 8) == 12
    assert recipe.samples_seen(resolved) == 9600
    with pytest.raises(InputError, match=r"train\.global_batch: 96 .* 7 devices"):
        recipe.per_device_batch(resolved, 7)
    with pytest.raises(InputError, match="devices: 0"):
        recipe.per_device_batch(resolved, 0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"preset": "mmseg"}, "train.preset"),
        ({"iterations": None}, "train.iterations"),
        ({"mean": [0.5, 0.5]}, "train.mean"),
        ({"std": [0.5, 0.5, 0.0]}, "train.std"),
        ({"scale_min": 3.0}, "train.scale_min"),
        ({"warmup_iterations": 100}, "train.warmup_iterations"),
        ({"ohem_min_kept": "a quarter"}, "train.ohem_min_kept"),
        ({"end_lr": 1.0}, "train.end_lr"),
    ],
)
def test_contradictions_name_the_key(change, named):
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        recipe.resolve({**PLAIN, **change})


def test_normalization_follows_the_preset_and_its_override():
    assert recipe.normalization({"preset": "paddleseg"}) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    mean, std = recipe.normalization({"preset": "authors", "std": [1, 1, 1]})
    assert mean == (0.485, 0.456, 0.406) and std == (1.0, 1.0, 1.0)
