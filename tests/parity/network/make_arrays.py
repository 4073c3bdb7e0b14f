# ruff: noqa: E402
"""Run PaddleSeg's network and losses on seeded inputs and store digests of what came out.

    python tests/parity/network/make_arrays.py      # writes arrays.npz beside this file

Needs the environment of the peers (paddleseg 2.7.0). The ordinary test suite reads arrays.npz and needs no peer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np
import paddle
import peer
import seeded

BACKBONES = ("stdc1", "stdc2")
SIZES = ((64, 128), (67, 97), (33, 65))
STEPS = 12
OUTPUTS = ("logits", "logits8", "logits16", "detail_logits")


def seeded_peer(backbone: str) -> paddle.nn.Layer:
    """PaddleSeg's network with seeded weights."""
    model = peer.build(backbone)
    model.set_state_dict(seeded.weights({name: tensor.shape for name, tensor in model.state_dict().items()}))
    return model


def freeze_statistics(model: paddle.nn.Layer) -> None:
    """Let batch norms use running statistics: over a small batch they multiply rounding errors, layer by layer."""
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer.eval()


def network(backbone: str) -> Dict[str, np.ndarray]:
    """Logits in evaluation and training, running statistics, and the gradients of one step."""
    made: Dict[str, np.ndarray] = {}
    paddle.seed(20)
    fresh = peer.build(backbone).state_dict()
    made["shapes"] = np.array([" ".join(map(str, [name, *tensor.shape])) for name, tensor in fresh.items()])
    made["initial"] = np.stack([seeded.digest(name, fresh[name].numpy(), 4) for name in sorted(fresh)])
    model = seeded_peer(backbone)
    model.eval()
    with paddle.no_grad():
        for height, width in SIZES:
            x = paddle.to_tensor(seeded.images(1, height, width))
            made[f"evaluation/{height}x{width}"] = seeded.digest("logits", model(x)[0].numpy(), 256)
    model.train()
    x, train_id = paddle.to_tensor(seeded.images(4, 67, 97)), paddle.to_tensor(seeded.labels(4, 67, 97))
    outputs = model(x)
    for name, output in zip(OUTPUTS, outputs):
        made[f"training/{name}"] = seeded.digest(name, output.numpy(), 256)
    state = model.state_dict()
    running = sorted(name for name in state if name.endswith(("_mean", "_variance")))
    made["running"] = np.stack([seeded.digest(name, state[name].numpy(), 4) for name in running])
    made["losses"] = np.array([float(part) for part in peer.step_losses(outputs, train_id, peer.losses(3000))])
    freeze_statistics(model)
    sum(peer.step_losses(model(x), train_id, peer.losses(3000))).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = sorted(name for name, gradient in gradients.items() if gradient is not None)
    made["gradients"] = np.stack([seeded.digest(name, gradients[name].numpy(), 4) for name in names])
    return made


def curve() -> np.ndarray:
    """Losses of STDC1-Seg over SGD steps on four batches, (steps, 4)."""
    model = seeded_peer("stdc1")
    model.train()
    freeze_statistics(model)
    decay = paddle.optimizer.lr.PolynomialDecay(0.01, decay_steps=50, end_lr=0, power=0.9)
    optimizer = paddle.optimizer.Momentum(decay, parameters=model.parameters(), weight_decay=4e-5, momentum=0.9)
    chosen = peer.losses(2000)
    rows = []
    for step in range(STEPS):
        x = paddle.to_tensor(seeded.images(2, 64, 64, step % 4))
        parts = peer.step_losses(model(x), paddle.to_tensor(seeded.labels(2, 64, 64, step % 4)), chosen)
        sum(parts).backward()
        optimizer.step()
        decay.step()
        optimizer.clear_grad()
        rows.append([float(part) for part in parts])
    return np.array(rows)


def mining() -> Dict[str, np.ndarray]:
    """Value and gradient of the mining loss in each of its branches."""
    made = {}
    for name, (values, train_id, min_kept) in seeded.ohem_cases().items():
        threshold = seeded.ohem_threshold(name)
        x = paddle.to_tensor(values, stop_gradient=False)
        loss = peer.ohem(threshold, min_kept)(x, paddle.to_tensor(train_id))
        loss.backward()
        made[name] = np.concatenate([[float(loss)], seeded.digest("gradient", x.grad.numpy())])
    return made


def detail() -> Dict[str, np.ndarray]:
    """Value and gradient of the detail loss."""
    made = {}
    loss_layer = peer.detail_loss()
    for height, width in seeded.DETAIL_SIZES:
        values, train_id = seeded.detail_case(height, width)
        x = paddle.to_tensor(values, stop_gradient=False)
        loss = loss_layer(x, paddle.to_tensor(train_id))
        loss.backward()
        made[f"{height}x{width}"] = np.concatenate([[float(loss)], seeded.digest("gradient", x.grad.numpy())])
    return made


def learning_rates() -> np.ndarray:
    """PaddleSeg's schedule of the published recipe: every 1000th of 80,000 rates, and the last."""
    decay = paddle.optimizer.lr.PolynomialDecay(0.01, decay_steps=80000, end_lr=0, power=0.9)
    rates = []
    for step in [*range(0, 80000, 1000), 79999]:
        decay.last_epoch = step
        rates.append(decay.get_lr())
    return np.array(rates)


def main() -> None:
    made: Dict[str, np.ndarray] = {"curve": curve(), "rates": learning_rates()}
    for backbone in BACKBONES:
        made.update({f"{backbone}/{name}": values for name, values in network(backbone).items()})
    made.update({f"ohem/{name}": values for name, values in mining().items()})
    made.update({f"detail/{name}": values for name, values in detail().items()})
    np.savez_compressed(HERE / "arrays.npz", **{name: made[name] for name in sorted(made)})
    print(f"{len(made)} arrays, {(HERE / 'arrays.npz').stat().st_size} bytes, paddle {paddle.__version__}")


if __name__ == "__main__":
    main()
