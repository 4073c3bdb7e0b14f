"""Print parameters and multiply-accumulates of the networks beside the published figures, as Markdown."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Tuple

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program

#: Sizes (height, width) at which speed figures are published: the paper's Seg50 and Seg75, and PaddleSeg's.
SIZES = ((512, 1024), (768, 1536), (1024, 2048))


def arguments() -> argparse.ArgumentParser:
    return program.parser("model_table", __doc__ or "")


def main(_: argparse.Namespace) -> None:
    from stdc.machine import devices

    devices.prepare("cpu", 1)
    from stdc.nn import cost
    from stdc.nn.segmentor import build_segmentor
    from stdc.published.reference import load_reference

    classifiers: List[Tuple[str, ...]] = []
    segmentors: List[Tuple[str, ...]] = []
    for name, published in load_reference().backbones.items():
        classifier = cost.count_classifier(name)
        classifiers.append(
            (
                name.upper(),
                millions(classifier.learned),
                f"{published.parameters_millions:.2f} M",
                f"{classifier.macs / 1e6:.1f} M",
                f"{classifier.operations / 1e6:.1f} M",
                f"{published.megaflops:.0f} M",
            )
        )
        model = build_segmentor(name)
        inference = [cost.count_forward(model, *size) for size in SIZES]
        segmentors.append(
            (
                f"{name.upper()}-Seg",
                millions(cost.count_forward(model.cp.backbone, 32, 32).stored),
                millions(inference[0].stored),
                millions(cost.count_layers(model)[1]),
                millions(cost.count_layers(build_segmentor(name, unused_heads=True))[1]),
                *(f"{counted.macs / 1e9:.2f}" for counted in inference),
            )
        )
    print(
        table(
            ("ImageNet network, 224x224", "parameters", "published", "MACs", "MACs and element-wise", "published"),
            classifiers,
        )
    )
    print()
    sizes = [f"GMACs at {height}x{width}" for height, width in SIZES]
    print(table(("network", "backbone", "inference", "training", "file of PaddleSeg", *sizes), segmentors))


def millions(number: int) -> str:
    """A count as "8.284 M"."""
    return f"{number / 1e6:.3f} M"


def table(head: Tuple[str, ...], rows: List[Tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
