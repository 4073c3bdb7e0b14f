"""Which sample goes where."""

import collections
import subprocess
import sys
from pathlib import Path

import pytest

from stdc.seeds import derived_seed
from stdc.training.sampler import StepSampler

ROOT = Path(__file__).resolve().parents[2]


def test_every_epoch_visits_every_image_once_across_batch_borders():
    sampler = StepSampler(size=10, global_batch=4, seed=3)
    keys = [key for step in range(5) for key in sampler.keys(step)]
    assert sorted(keys) == list(range(20)), "two epochs: keys 0..9, then 10..19"
    assert [key // 10 for key in keys] == [0] * 10 + [1] * 10
    assert [key % 10 for key in keys[:10]] != [key % 10 for key in keys[10:]], "another order in the next epoch"


def test_step_depends_on_nothing_that_came_before():
    straight = StepSampler(7, 3, seed=1)
    passed = [straight.keys(step) for step in range(20)]
    assert [StepSampler(7, 3, seed=1).keys(step) for step in (19, 4, 11)] == [passed[19], passed[4], passed[11]]


def test_ranks_share_the_global_batch_of_one_device():
    alone = StepSampler(11, 6, seed=5)
    ranks = [StepSampler(11, 6, seed=5, rank=rank, world_size=3) for rank in range(3)]
    for step in range(9):
        assert [key for rank in ranks for key in rank.keys(step)] == alone.keys(step)


def test_batch_larger_than_the_dataset_repeats_no_key():
    keys = StepSampler(size=3, global_batch=8, seed=0).keys(0)
    assert collections.Counter(keys).most_common(1)[0][1] == 1 and len(keys) == 8


def test_order_is_the_same_in_another_process():
    code = "from stdc.training.sampler import StepSampler; print(StepSampler(50, 10, seed=9).keys(7))"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == str(StepSampler(50, 10, seed=9).keys(7))


def test_derived_seeds_keep_their_parts_apart():
    assert derived_seed(1, 23) != derived_seed(12, 3)
    assert 0 <= derived_seed("x") < 2**32


def test_ranks_share_a_batch_that_they_do_not_divide():
    alone = StepSampler(11, 7, seed=5)
    ranks = [StepSampler(11, 7, seed=5, rank=rank, world_size=3) for rank in range(3)]
    assert [rank.device_batch for rank in ranks] == [len(rank.keys(0)) for rank in ranks] == [3, 2, 2]
    for step in range(9):
        assert [key for rank in ranks for key in rank.keys(step)] == alone.keys(step)


def test_rank_without_a_sample_is_a_programming_error():
    with pytest.raises(ValueError, match="world size 5"):
        StepSampler(10, 4, 0, 0, 5)
