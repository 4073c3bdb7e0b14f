"""The effective recipe: presets, overrides, batch arithmetic."""

import pytest

from stdc import recipe
from stdc.errors import InputError

PLAIN = {"preset": "paddleseg", "iterations": 100, "global_batch": 96, "crop_height": 512, "crop_width": 1024}


def test_preset_fills_what_is_null_and_nothing_else():
    resolved = recipe.resolve({**PLAIN, "base_lr": 0.02, "momentum": None})
    assert (resolved.schedule.base_lr, resolved.optimizer.momentum) == (0.02, 0.9)
    assert resolved.optimizer.weight_decay == 4e-5


def test_one_key_switches_between_the_published_recipes():
    authors = recipe.resolve({**PLAIN, "preset": "authors", "iterations": 60000, "global_batch": 48})
    # Values of the authors' train.py, cityscapes.py and optimizer_loss.py.
    optimizer, schedule, augmentation = authors.optimizer, authors.schedule, authors.augmentation
    assert optimizer.weight_decay == 5e-4 and not optimizer.weight_decay_on_norm_and_bias
    assert (schedule.warmup_iterations, schedule.warmup_start_lr, optimizer.head_lr_factor) == (1000, 1e-5, 10.0)
    assert (augmentation.scale_min, augmentation.scale_max, augmentation.scale_step) == (0.125, 1.5, 0.125)
    assert augmentation.mean == (0.485, 0.456, 0.406)
    # 16 images of 1024x512 on each of 3 devices: 16 * 1024 * 512 / 16.
    assert authors.losses.min_kept(16 * 1024 * 512) == 524288


def test_a_number_never_chooses_the_mining_rule():
    for preset in ("paddleseg", "authors"):
        for min_kept in (5000, "pixels/16"):
            given = {**PLAIN, "iterations": 2000, "preset": preset, "ohem_min_kept": min_kept}
            assert recipe.resolve(given).losses.ohem_rule == preset
    assert recipe.resolve({**PLAIN, "ohem_rule": "authors"}).losses.ohem_min_kept == 10000


def test_global_batch_is_divided_as_evenly_as_can_be():
    schedule = recipe.resolve(PLAIN).schedule
    assert schedule.device_batches(8) == (12,) * 8
    assert schedule.device_batches(7) == (14, 14, 14, 14, 14, 13, 13)
    assert schedule.per_device_batch(7) == 14
    with pytest.raises(InputError, match=r"train\.global_batch: 96 for 97 devices; .* 96 devices or fewer"):
        schedule.device_batches(97)
    with pytest.raises(InputError, match="devices: 0"):
        schedule.per_device_batch(0)


def test_each_device_has_an_image_in_every_forward_pass():
    """Batch norm over the devices is a collective, for which all of them must come equally often."""
    schedule = recipe.resolve(PLAIN).schedule
    assert [schedule.passes(1, most) for most in (96, 97, 50, 48, 12, 1)] == [1, 1, 2, 2, 8, 96]
    # 14 or 13 images: 7 passes of 2, or of 2 and one of 1.
    assert schedule.passes(7, 2) == 7
    with pytest.raises(InputError, match=r"hardware\.micro_batch: 1 image .* 14 or 13 images"):
        schedule.passes(7, 1)
    with pytest.raises(InputError, match=r"hardware\.micro_batch: 0"):
        schedule.passes(8, 0)


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
        # The rate is multiplied at each step of the warm-up, so it cannot start at the preset's 0.
        ({"warmup_iterations": 10}, "train.warmup_start_lr"),
        ({"momentum": 5}, "train.momentum"),
        ({"momentum": True}, "train.momentum"),
        ({"ohem_min_kept": 0}, "train.ohem_min_kept"),
        ({"ohem_rule": "mmseg"}, "train.ohem_rule"),
        ({"scale_step": 1e-8}, "train.scale_step"),
        ({"base_lr": float("nan")}, "train.base_lr"),
        ({"hue": "18"}, "train.hue"),
        ({"deterministic": 1}, "train.deterministic"),
        ({"global_batch": 10**400}, "train.global_batch"),
    ],
)
def test_contradictions_name_the_key(change, named):
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        recipe.resolve({**PLAIN, **change})


def test_normalization_follows_the_preset_and_its_override():
    assert recipe.normalization({"preset": "paddleseg"}) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    mean, std = recipe.normalization({"preset": "authors", "std": [1, 1, 1]})
    assert mean == (0.485, 0.456, 0.406) and std == (1.0, 1.0, 1.0)
