# ruff: noqa: E402
"""Run the torch statement of the authors' network on seeded inputs; write checkpoints as their code does.

    python tests/parity/authors/make_arrays.py              # arrays.npz and small checkpoints, beside this file
    python tests/parity/authors/make_arrays.py --live DIR   # full-size checkpoints, inputs and outputs for compare.py

Needs torch 2.13. The ordinary test suite reads what was written and needs no torch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "network")]

import authors_names
import numpy as np
import oracle
import seeded
import torch

BACKBONES = ("stdc1", "stdc2")
OUTPUTS = ("logits", "logits8", "logits16", "detail_logits")
N_MIN = 3000
SIZES = ((64, 128), (67, 97))


def seeded_oracle(backbone: str, divide: int = 1, negative: bool = False) -> torch.nn.Module:
    """The network with seeded weights; stages have two names but one set of numbers."""
    model = oracle.BiSeNet(backbone, divide)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    arrays = authors_names.weights(shapes, negative)
    report = model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)
    assert not report.unexpected_keys
    assert not any(authors_names.counts(name) for name in report.missing_keys)
    return model


def freeze_statistics(model: torch.nn.Module) -> None:
    """Batch norms over small batches multiply rounding errors, layer by layer."""
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm1d)):
            module.eval()


def network(backbone: str) -> Dict[str, np.ndarray]:
    """Logits in evaluation and training, losses, and gradients under the authors' names."""
    model = seeded_oracle(backbone, negative=True).eval()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    made = {"shapes": np.array([" ".join(map(str, [name, *shape])) for name, shape in shapes.items()])}
    with torch.no_grad():
        for height, width in SIZES:
            output = model(torch.from_numpy(seeded.images(1, height, width)))[0]
            made[f"evaluation/{height}x{width}"] = seeded.digest("logits", output.numpy(), 256)
    model = seeded_oracle(backbone).train()
    x, train_id = torch.from_numpy(seeded.images(4, 67, 97)), torch.from_numpy(seeded.labels(4, 67, 97))
    with torch.no_grad():
        for name, output in zip(OUTPUTS, model(x)):
            made[f"training/{name}"] = seeded.digest(name, output.numpy(), 256)
    model = seeded_oracle(backbone).train()
    freeze_statistics(model)
    outputs = model(x)
    parts = [oracle.ohem_loss(output, train_id, 0.7, N_MIN) for output in outputs[:3]]
    parts += oracle.detail_loss(outputs[3], train_id)
    made["losses"] = np.array([part.item() for part in parts])
    sum(parts).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = sorted(name for name, gradient in gradients.items() if gradient is not None)
    made["gradient_names"] = np.array(names)
    made["gradients"] = np.stack([seeded.digest(name, gradients[name].numpy(), 4) for name in names])
    return made


def mining() -> Dict[str, np.ndarray]:
    """Value and gradient of the authors' mining loss."""
    made = {}
    for name, (values, train_id, min_kept) in seeded.ohem_cases().items():
        x = torch.from_numpy(values).requires_grad_()
        loss = oracle.ohem_loss(x, torch.from_numpy(train_id), seeded.ohem_threshold(name), min_kept)
        loss.backward()
        made[name] = np.concatenate([[loss.item()], seeded.digest("gradient", x.grad.numpy())])
    return made


def detail() -> Dict[str, np.ndarray]:
    """Edges, and value and gradient of the detail loss."""
    made = {}
    for height, width in seeded.DETAIL_SIZES:
        values, train_id = seeded.detail_case(height, width)
        labels = torch.from_numpy(train_id)
        x = torch.from_numpy(values).requires_grad_()
        bce, dice = oracle.detail_loss(x, labels)
        (bce + dice).backward()
        key = f"{height}x{width}"
        made[f"{key}/loss"] = np.concatenate([[bce.item(), dice.item()], seeded.digest("gradient", x.grad.numpy())])
        made[f"{key}/edges"] = np.packbits(oracle.detail_target(labels).numpy().astype(bool))
    return made


def save(model: torch.nn.Module, folder: Path, prefix: str) -> None:
    """Checkpoints in both of torch's containers, and an ImageNet backbone as the authors wrap it."""
    state = model.state_dict()
    torch.save(state, folder / f"{prefix}segmentor.pth")
    # torch 1.1, which the authors used, writes the old container only.
    torch.save(state, folder / f"{prefix}segmentor_torch1.pth", _use_new_zipfile_serialization=False)
    wrapped: Dict[str, Any] = {
        "epoch": 300,
        "arch": "stdcnet",
        "state_dict": {f"module.{name}": tensor for name, tensor in model.cp.backbone.state_dict().items()},
        "best_acc_top1": torch.tensor(73.91),
    }
    torch.save(wrapped, folder / f"{prefix}backbone_torch1.tar", _use_new_zipfile_serialization=False)


def live(folder: Path) -> None:
    """Everything that compare.py needs, with weights that torch drew."""
    torch.manual_seed(5)
    for backbone in BACKBONES:
        model = oracle.BiSeNet(backbone)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.weight, 1.0 if type(module) is torch.nn.BatchNorm2d else 0.0, 0.7)
                torch.nn.init.normal_(module.bias, 0.0, 0.1)
        model.train()
        with torch.no_grad():
            # Running statistics of real passes.
            for seed in range(3):
                model(torch.from_numpy(seeded.images(2, 128, 192, seed)))
        save(model, folder, f"{backbone}_")
        model.eval()
        with torch.no_grad():
            for height, width in ((64, 128), (67, 97), (256, 512)):
                output = model(torch.from_numpy(seeded.images(1, height, width)))[0]
                np.save(folder / f"{backbone}_{height}x{width}.npy", output.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=Path, metavar="DIR", help="write full-size files there instead")
    options = parser.parse_args()
    if options.live:
        live(options.live)
        return
    steps = [0, 1, 500, 999, 1000, 1001, 2000, 30000, 59999]
    made: Dict[str, np.ndarray] = {
        "rate_steps": np.array(steps),
        "rates": np.array(oracle.learning_rates(60000, steps)),
    }
    for backbone in BACKBONES:
        made.update({f"{backbone}/{name}": values for name, values in network(backbone).items()})
    made.update({f"ohem/{name}": values for name, values in mining().items()})
    made.update({f"detail/{name}": values for name, values in detail().items()})
    np.savez_compressed(HERE / "arrays.npz", **{name: made[name] for name in sorted(made)})
    save(seeded_oracle("stdc1", divide=32, negative=True), HERE, "small_")
    sizes = {path.name: path.stat().st_size for path in sorted(HERE.glob("*.*")) if path.suffix != ".py"}
    print(f"{len(made)} arrays, torch {torch.__version__}, {sizes}")


if __name__ == "__main__":
    main()
