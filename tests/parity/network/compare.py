# ruff: noqa: E402
"""Run PaddleSeg's network and losses beside ours in one process; measure the differences.

    python tests/parity/network/compare.py --out rows.json

Needs the environment of the peers. Every row says what was compared, the tolerance, and what was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE)]

import numpy as np
import paddle
import peer
import seeded

from stdc.nn.losses import detail_loss, detail_target, ohem_cross_entropy, segmentation_loss
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_segmentor, state_arrays, with_unused_heads
from stdc.recipe import Losses, resolve
from stdc.training import schedule
from stdc.training.optimizer import build_optimizer
from stdc.weights import array_files

BACKBONES = ("stdc1", "stdc2")
#: (height, width): multiples of 32, odd, smaller than the network's stride, wide.
SIZES = ((64, 128), (67, 97), (33, 65), (160, 31), (256, 512))
TRAIN_SIZES = ((64, 128), (67, 97), (96, 161))
STEPS = 50

Row = Dict[str, Any]


def paddleseg_losses(min_kept: int) -> Losses:
    """PaddleSeg's losses with another least number of kept pixels."""
    return Losses(ohem_rule="paddleseg", ohem_threshold=0.7, ohem_min_kept=min_kept, detail_weight=1.0)


def relative(ours: Any, theirs: Any) -> float:
    """Largest difference over the largest value."""
    ours, theirs = (np.asarray(value, dtype=np.float64) for value in (ours, theirs))
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def pair(backbone: str) -> Tuple[paddle.nn.Layer, paddle.nn.Layer]:
    """Our network and PaddleSeg's with the same seeded weights."""
    theirs = peer.build(backbone)
    arrays = seeded.weights({name: tensor.shape for name, tensor in theirs.state_dict().items()})
    theirs.set_state_dict(arrays)
    ours = build_segmentor(backbone)
    load_segmentor(ours, arrays, "seeded weights")
    return ours, theirs


def initial_weights(backbone: str) -> float:
    """Same seed, same initial weights."""
    paddle.seed(20)
    theirs = state_arrays(peer.build(backbone))
    paddle.seed(20)
    ours = state_arrays(build_segmentor(backbone, unused_heads=True))
    assert list(ours) == list(theirs)
    return max(relative(ours[name], theirs[name]) for name in theirs)


def exchange(backbone: str) -> float:
    """Share of parameters lost on the way PaddleSeg -> here -> PaddleSeg, as .pdparams files."""
    theirs = peer.build(backbone)
    arrays = seeded.weights({name: tensor.shape for name, tensor in theirs.state_dict().items()})
    theirs.set_state_dict(arrays)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "theirs.pdparams"))
        paddle.save(theirs.state_dict(), path)
        read = array_files.read_pdparams(path)
        ours = build_segmentor(backbone)
        ignored = load_segmentor(ours, read, path)
        full = build_segmentor(backbone, unused_heads=True)
        assert load_segmentor(full, read, path) == []
        lost = sum(not np.array_equal(state_arrays(full)[name], arrays[name]) for name in arrays)
        assert len(ours.state_dict()) + len(ignored) == len(arrays)
        path = str(Path(folder, "ours.pdparams"))
        array_files.write_pdparams(path, with_unused_heads(state_arrays(ours)))
        back = peer.build(backbone)
        known = paddle.load(path)
        assert sorted(known) == sorted(back.state_dict())
        peer.load_entire_model(back, path)
        lost += sum(not np.array_equal(state_arrays(back)[name], arrays[name]) for name in ours.state_dict())
    return lost / len(arrays)


def evaluation_outputs(backbone: str) -> float:
    """Logits in evaluation at several sizes."""
    ours, theirs = pair(backbone)
    ours.eval()
    theirs.eval()
    worst = 0.0
    with paddle.no_grad():
        for height, width in SIZES:
            x = paddle.to_tensor(seeded.images(1, height, width))
            worst = max(worst, relative(ours(x), theirs(x)[0]))
    return worst


def training_outputs(backbone: str) -> float:
    """The four logits in training, and the running statistics afterwards."""
    ours, theirs = pair(backbone)
    ours.train()
    theirs.train()
    worst = 0.0
    with paddle.no_grad():
        for height, width in TRAIN_SIZES:
            x = paddle.to_tensor(seeded.images(2, height, width))
            mine, others = ours(x), theirs(x)
            assert len(mine) == len(others) == 4
            worst = max(worst, *(relative(a, b) for a, b in zip(mine, others)))
    left, right = state_arrays(ours), state_arrays(theirs)
    return max(worst, *(relative(left[name], right[name]) for name in left))


def with_gradient(loss: Callable[..., Any], values: np.ndarray, *arguments: Any) -> Tuple[float, np.ndarray]:
    """(loss, its gradient)."""
    tensor = paddle.to_tensor(values, stop_gradient=False)
    result = loss(tensor, *arguments)
    result.backward()
    return float(result), tensor.grad.numpy()


def ohem_losses() -> float:
    """Mining loss: value and gradient in every branch."""
    worst = 0.0
    for name, (values, train_id, min_kept) in seeded.ohem_cases().items():
        labels, threshold = paddle.to_tensor(train_id), seeded.ohem_threshold(name)
        mine = with_gradient(ohem_cross_entropy, values, labels, threshold, min_kept)
        other = with_gradient(peer.ohem(threshold, min_kept), values, labels)
        worst = max(worst, abs(mine[0] - other[0]) / max(abs(other[0]), 1e-6), relative(mine[1], other[1]))
    return worst


def our_detail_loss(detail_logits: Any, train_id: Any) -> Any:
    """Binary cross entropy and Dice in one number, as PaddleSeg has them."""
    return sum(detail_loss(detail_logits, detail_target(train_id)))


def detail_losses() -> float:
    """Detail loss: value and gradient, at equal and at odd sizes."""
    worst = 0.0
    theirs = peer.detail_loss()
    for height, width in seeded.DETAIL_SIZES:
        values, labels = seeded.detail_case(height, width)
        train_id = paddle.to_tensor(labels)
        mine = with_gradient(our_detail_loss, values, train_id)
        other = with_gradient(theirs, values, train_id)
        worst = max(worst, abs(mine[0] - other[0]) / abs(other[0]), relative(mine[1], other[1]))
    return worst


def step_gradients(backbone: str) -> float:
    """Gradient of the whole loss in every parameter, each against its own largest entry."""
    ours, theirs = pair(backbone)
    ours.train()
    theirs.train()
    x, train_id = paddle.to_tensor(seeded.images(2, 96, 161)), paddle.to_tensor(seeded.labels(2, 96, 161))
    total, _ = segmentation_loss(ours(x), train_id, paddleseg_losses(3000))
    total.backward()
    sum(peer.step_losses(theirs(x), train_id, peer.losses(3000))).backward()
    mine = {name: parameter.grad for name, parameter in ours.named_parameters() if not parameter.stop_gradient}
    others = {name: parameter.grad for name, parameter in theirs.named_parameters() if not parameter.stop_gradient}
    scale = max(float(gradient.abs().max()) for gradient in others.values() if gradient is not None)
    worst = 0.0
    for name, gradient in mine.items():
        left, right = gradient.numpy().astype(np.float64), others[name].numpy().astype(np.float64)
        # A bias before a batch norm has gradient zero; what is left there is rounding, so it is held to the largest.
        own = np.abs(right).max()
        worst = max(worst, float(np.abs(left - right).max() / (own if own > 1e-6 * scale else scale)))
    return worst


def sgd_steps(backbone: str, steps: int = STEPS) -> Tuple[float, float]:
    """`steps` SGD steps on the same batches: largest relative difference of any loss, and of any weight at the end."""
    recipe = resolve(
        {"preset": "paddleseg", "iterations": steps, "global_batch": 2, "crop_height": 64, "crop_width": 64}
    )
    ours, theirs = pair(backbone)
    mine = build_optimizer(ours, recipe.optimizer)
    decay = paddle.optimizer.lr.PolynomialDecay(0.01, decay_steps=steps, end_lr=0, power=0.9)
    other = paddle.optimizer.Momentum(decay, parameters=theirs.parameters(), weight_decay=4e-5, momentum=0.9)
    ours.train()
    theirs.train()
    settings, chosen = paddleseg_losses(2000), peer.losses(2000)
    worst = 0.0
    for step in range(steps):
        batch = step % 4
        x, train_id = (
            paddle.to_tensor(seeded.images(2, 64, 64, batch)),
            paddle.to_tensor(seeded.labels(2, 64, 64, batch)),
        )
        mine.set_lr(schedule.learning_rate(recipe.schedule, step))
        total, parts = segmentation_loss(ours(x), train_id, settings)
        total.backward()
        mine.step()
        mine.clear_grad()
        their_parts = peer.step_losses(theirs(x), train_id, chosen)
        sum(their_parts).backward()
        other.step()
        decay.step()
        other.clear_grad()
        left = [float(parts[name]) for name in ("ohem", "ohem8", "ohem16")]
        left.append(float(parts["detail_bce"]) + float(parts["detail_dice"]))
        worst = max(worst, *(abs(a - float(b)) / float(b) for a, b in zip(left, their_parts)))
    state, their_state = state_arrays(ours), state_arrays(theirs)
    return worst, max(relative(state[name], their_state[name]) for name in state)


def learning_rates() -> float:
    """Every 7th learning rate of 80,000, value by value."""
    recipe = resolve(
        {"preset": "paddleseg", "iterations": 80000, "global_batch": 48, "crop_height": 512, "crop_width": 1024}
    )
    decay = paddle.optimizer.lr.PolynomialDecay(0.01, decay_steps=80000, end_lr=0, power=0.9)
    worst = 0.0
    for step in range(0, 80000, 7):
        decay.last_epoch = step
        theirs = decay.get_lr()
        worst = max(worst, abs(schedule.learning_rate(recipe.schedule, step) - theirs) / theirs)
    return worst


def batch_norms(backbone: str) -> float:
    """Momentum and epsilon of every batch norm."""

    def settings(model: paddle.nn.Layer) -> Dict[str, Tuple[float, float]]:
        found = {}
        for name, layer in model.named_sublayers():
            if isinstance(layer, paddle.nn.BatchNorm2D):
                found[name] = (layer._momentum, layer._epsilon)
        return found

    ours, theirs = settings(build_segmentor(backbone, unused_heads=True)), settings(peer.build(backbone))
    assert ours == theirs or set(ours) == set(theirs)
    return max(abs(a - b) for name in theirs for a, b in zip(ours[name], theirs[name]))


def rows() -> List[Row]:
    """Every comparison."""
    made: List[Row] = []

    def add(what: str, tolerance: float, measured: float) -> None:
        made.append({"what": what, "peer": "paddleseg 2.7.0", "tolerance": tolerance, "measured": measured})
        print(f"{what}: {measured:.3g}", file=sys.stderr, flush=True)

    for backbone in BACKBONES:
        name = f"{backbone.upper()}-Seg"
        sizes = ", ".join(f"{height}x{width}" for height, width in SIZES)
        train_sizes = ", ".join(f"{height}x{width}" for height, width in TRAIN_SIZES)
        add(f"{name}: initial weights of one seed", 0.0, initial_weights(backbone))
        add(f"{name}: parameters lost from PaddleSeg's .pdparams to here and back", 0.0, exchange(backbone))
        add(f"{name}: batch norm momentum and epsilon", 0.0, batch_norms(backbone))
        add(f"{name}: evaluation logits at {sizes}", 1e-5, evaluation_outputs(backbone))
        add(f"{name}: four training logits and running statistics at {train_sizes}", 1e-5, training_outputs(backbone))
        add(f"{name}: gradient of every parameter", 1e-4, step_gradients(backbone))
        losses, parameters = sgd_steps(backbone)
        add(f"{name}: four losses at each of {STEPS} SGD steps", 1e-6, losses)
        add(f"{name}: parameters and running statistics after {STEPS} SGD steps", 1e-6, parameters)
    add(f"OHEM loss and gradient, {len(seeded.ohem_cases())} cases", 1e-5, ohem_losses())
    add("detail loss and gradient, kernel 0.6/0.3/0.1", 1e-5, detail_losses())
    add("learning rate of the paddleseg preset", 1e-12, learning_rates())
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the rows go, as JSON")
    options = parser.parse_args()
    options.out.write_text(json.dumps({"backend": f"paddle {paddle.__version__}", "rows": rows()}, indent=1))


if __name__ == "__main__":
    main()
