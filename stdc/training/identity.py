"""The run hash: everything that changes the trained weights, and nothing else.

It names the run folder, so a changed hyper-parameter never resumes an old run, while a new log interval, another number
of data workers or an edited comment does not throw a run away.
"""

from __future__ import annotations

import dataclasses
import io
import os
import tokenize
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from stdc import files, recipe
from stdc.machine import devices

_PACKAGE = Path(__file__).resolve().parents[1]

#: Code that decides the weights: the network, what it is fed with, and the loop.
CODE = (
    "nn/*.py",
    "data/transforms.py",
    "data/dataset.py",
    "training/optimizer.py",
    "training/sampler.py",
    "training/schedule.py",
    "training/loop.py",
    "recipe.py",
)

_SKIPPED_TOKENS = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}


def code_sha256(package: Path = _PACKAGE) -> str:
    """Hash of the code that decides the weights; comments, docstrings and layout do not count."""
    texts = []
    for pattern in CODE:
        paths = sorted(package.glob(pattern))
        if not paths:
            raise RuntimeError(f"no code matches {package / pattern}")
        texts += [f"{path.name}\n{_bare_code(path.read_text(encoding='utf-8'))}" for path in paths]
    return files.sha256_text("\0".join(texts))


def run_identity(
    train_recipe: recipe.TrainRecipe,
    model: Mapping[str, Any],
    seed: int,
    world_size: int,
    threads: int,
    device_kind: str,
    evaluate_every: int,
    inputs: Mapping[str, Optional[str]],
) -> Dict[str, Any]:
    """What the run hash is made of.

    Args:
        model: the `model` section; where pretrained weights came from does not count, their content does.
        evaluate_every: iterations between evaluations, 0 for none: it decides which weights are the best.
        inputs: SHA-256 by name: manifest, lists, labels, backbone weights (None: random initialization).
    """
    import numpy
    import paddle

    return {
        "recipe": train_recipe.as_dict(),
        "network": dataclasses.asdict(recipe.part_of(recipe.Network, model)),
        "seed": seed,
        "world_size": world_size,
        # Sums are split over threads, so another count gives other last bits.
        "threads": threads,
        "device": device_kind,
        "evaluate_every": evaluate_every,
        "inputs": dict(inputs),
        "code": code_sha256(),
        "paddle": paddle.__version__,
        "numpy": numpy.__version__,
        "amd_kernels": os.environ.get(devices.AMD_VARIABLE),
    }


def run_hash(identity: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a run's identity."""
    return files.sha256_text(files.canonical_json(identity))


def semaphore_owner(run_hash: str) -> str:
    """How the semaphores of a run's data workers are named, so that the next start finds what a kill left."""
    return f"stdc-{run_hash[:16]}"


def _bare_code(source: str) -> str:
    """Source without comments, docstrings, blank lines and spaces inside lines."""
    kept: List[str] = []
    at_statement = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _SKIPPED_TOKENS:
            continue
        if token.type == tokenize.INDENT:
            kept.append("{")
            at_statement = True
        elif token.type == tokenize.DEDENT:
            kept.append("}")
            at_statement = True
        elif token.type == tokenize.NEWLINE:
            kept.append("\n")
            at_statement = True
        elif token.type == tokenize.STRING and at_statement:
            # A string that is a statement of its own is a docstring.
            continue
        else:
            kept.append(token.string + " ")
            at_statement = False
    return "".join(kept)
