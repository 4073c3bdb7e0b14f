"""Batch norm over ranks made of ordinary operations: two ranks with half a batch each are one with the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Tuple

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc.nn.segmentor import build_segmentor  # noqa: E402
from stdc.nn.sync_batch_norm import SyncBatchNorm2D, convert_sync_batch_norm  # noqa: E402

#: Run by every rank; also the reference, with one rank.
RANK_PROGRAM = """
import sys
import numpy as np
import paddle
import paddle.distributed as dist

from stdc.nn.blocks import ShortTermDenseConcatenate
from stdc.nn.sync_batch_norm import SyncBatchNorm2D, convert_sync_batch_norm, find_difference

paddle.set_device("cpu")
dist.init_parallel_env()
rank, ranks = dist.get_rank(), dist.get_world_size()
shares = [int(word) for word in sys.argv[2:]]
paddle.seed(5)
model = ShortTermDenseConcatenate(8, 16, 2)
convert_sync_batch_norm(model, portable=True, unequal=len(set(shares)) > 1)
images = 3.0 + np.random.RandomState(0).standard_normal((4, 8, 12, 10)).astype("float32")
target = np.random.RandomState(1).standard_normal((4, 16, 6, 5)).astype("float32")
mine = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
stepping = paddle.DataParallel(model) if ranks > 1 else model
outputs = stepping(paddle.to_tensor(images[mine]))
loss = ((outputs - paddle.to_tensor(target[mine])) ** 2).mean()
(loss * (shares[rank] * ranks / 4)).backward()
arrays = {"state/" + name: tensor.numpy() for name, tensor in model.state_dict().items()}
arrays.update({"grad/" + n: p.grad.numpy() for n, p in model.named_parameters() if not p.stop_gradient})
np.savez(f"{sys.argv[1]}/{ranks}-{rank}.npz", outputs=outputs.numpy(), **arrays)


class Broken(SyncBatchNorm2D):
    def forward(self, x):
        raise RuntimeError("(NotFound) The kernel `sync_batch_norm_grad` is not registered.")


if ranks > 1:
    norms = (SyncBatchNorm2D, paddle.nn.BatchNorm2D, Broken)
    with open(f"{sys.argv[1]}/differences.{rank}", "w") as file:
        file.writelines(find_difference(norm) + "\\n" for norm in norms)
"""


def run_ranks(folder: Path, *shares: int) -> None:
    """One rank for each number of images."""
    ranks = len(shares)
    program = folder / "rank.py"
    program.write_text(RANK_PROGRAM, encoding="utf-8")
    # The launcher fails on an empty list of devices, and writes its whole environment into its logs.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    environment = dict(kept, OMP_NUM_THREADS="1", PYTHONPATH=str(Path(__file__).resolve().parents[2]))
    command = [sys.executable, "-W", "ignore"]
    if ranks > 1:
        command += [
            "-m",
            "paddle.distributed.launch",
            "--nproc_per_node",
            str(ranks),
            "--log_dir",
            str(folder / "logs"),
        ]
    done = subprocess.run(
        [*command, str(program), str(folder), *map(str, shares)],
        env=environment,
        cwd=folder,
        timeout=90,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("shares", [(2, 2), (3, 1)], ids=["equal ranks", "unequal ranks"])
def test_two_ranks_equal_one_with_the_whole_batch(tmp_path: Path, shares: Tuple[int, ...]) -> None:
    run_ranks(tmp_path, 4)
    run_ranks(tmp_path, *shares)
    whole, first, second = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("1-0", "2-0", "2-1"))
    outputs = np.concatenate([first.pop("outputs"), second.pop("outputs")])
    np.testing.assert_allclose(outputs, whole.pop("outputs"), atol=2e-6)
    assert set(whole) == set(first) == set(second)
    for name, expected in whole.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=f"{name} differs between ranks")
        # A gradient before a batch norm is the small rest of larger terms that cancel.
        np.testing.assert_allclose(first[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
    assert np.abs(whole["state/conv_list.0.bn._mean"]).max() > 0.01
    for rank in range(2):
        ours, own_batch_alone, broken = (tmp_path / f"differences.{rank}").read_text().split("\n")[:3]
        assert ours == ""
        assert own_batch_alone.startswith("output differs by")
        assert broken == "RuntimeError: (NotFound) The kernel `sync_batch_norm_grad` is not registered."


def test_conversion_keeps_parameters_their_names_and_their_order() -> None:
    model = build_segmentor("stdc1")
    before = list(model.state_dict().items())
    assert convert_sync_batch_norm(model, portable=True) is model
    after = list(model.state_dict().items())
    assert [name for name, _ in before] == [name for name, _ in after]
    assert all(old is new for (_, old), (_, new) in zip(before, after))
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    assert norms and all(type(layer) is SyncBatchNorm2D for layer in norms)


def test_kernel_of_paddle_is_not_taken_for_unequal_ranks() -> None:
    with pytest.raises(ValueError, match="equal batches"):
        convert_sync_batch_norm(build_segmentor("stdc1"), portable=False, unequal=True)


@pytest.mark.parametrize("portable", [False, True])
def test_conversion_keeps_the_names_with_either_implementation(portable: bool) -> None:
    model = build_segmentor("stdc1")
    names = list(model.state_dict())
    assert list(convert_sync_batch_norm(model, portable).state_dict()) == names


def test_one_rank_and_evaluation_are_ordinary_batch_norm() -> None:
    paddle.seed(6)
    images = 2.0 + paddle.randn([3, 4, 5, 6])
    ordinary, synchronized = paddle.nn.BatchNorm2D(4), SyncBatchNorm2D(4)
    for training in (True, False):
        ordinary.training = synchronized.training = training
        np.testing.assert_array_equal(ordinary(images).numpy(), synchronized(images).numpy())
    np.testing.assert_array_equal(ordinary._variance.numpy(), synchronized._variance.numpy())
