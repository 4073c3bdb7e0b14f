"""Every (kernel, dtype) that a training step and an evaluation use is registered for GPUs, in Paddle 2.4.2 and 2.6.2.

What is registered is read out of the builds for CUDA by `kernels/kernels.py`, which needs no GPU. A build that is at
hand is asked anew: the interpreter's own (`make floor` runs this on 2.4.2), 2.4.2 in `test_paddle24.py`, and 2.6.2 in
the environment that STDC_CUDA_PADDLE26 names. Elsewhere the stored answer is taken, and it is only held against today's
code. Registered is not the same as correct or fast.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Set, Tuple

import pytest

paddle = pytest.importorskip("paddle")

sys.path.insert(0, str(Path(__file__).resolve().parent / "kernels"))

import kernels  # noqa: E402

TABLES: Dict[str, Any] = json.loads(kernels.TABLES.read_text())

RENEW = "run tests/devices/kernels/kernels.py --write with each Paddle of tables.json"


def pairs(used: Dict[str, Any]) -> Set[Tuple[str, str]]:
    return {(name, dtype) for name, dtypes in used.items() for dtype in dtypes}


@pytest.fixture(scope="module")
def today() -> Dict[str, Any]:
    """The table of the Paddle at hand, made now."""
    return kernels.look_up()


def test_stored_tables_are_of_the_code_as_it_is(today: Dict[str, Any]) -> None:
    """A kernel that is new in our code is not in the tables, so nobody has looked it up."""
    if paddle.__version__ not in TABLES:
        pytest.skip(f"NO TABLE for paddle {paddle.__version__}: only {', '.join(TABLES)}")
    assert pairs(today["used"]) == pairs(TABLES[paddle.__version__]["used"]), RENEW


@pytest.mark.parametrize("version", ["2.4.2", "2.6.2"])
def test_every_kernel_in_use_is_registered_for_gpus(version: str) -> None:
    table = TABLES[version]
    assert len(pairs(table["used"])) > 50
    assert table["missing"] == []


def test_the_build_at_hand_registers_what_is_used(today: Dict[str, Any]) -> None:
    if "missing" not in today:
        pytest.skip(f"NOT ASKED: paddle {paddle.__version__} here is built for the CPU")
    assert today["missing"] == []


def test_paddle_2_6_for_cuda_registers_what_is_used() -> None:
    folder = os.environ.get("STDC_CUDA_PADDLE26")
    if not folder:
        pytest.skip("NOT ASKED: STDC_CUDA_PADDLE26 names no environment with paddlepaddle-gpu 2.6.2")
    table = kernels.ask(f"{folder}/bin/python", {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"})
    assert table["version"] == "2.6.2"
    assert table["missing"] == []
    assert pairs(table["used"]) == pairs(TABLES["2.6.2"]["used"]), RENEW


def test_a_kernel_that_is_not_registered_would_be_found() -> None:
    """Flattening booleans, which stopped the first step on Paddle 2.4: seen in its registry by this look-up."""
    if not paddle.is_compiled_with_cuda():
        pytest.skip(f"NOT ASKED: paddle {paddle.__version__} here is built for the CPU")
    if not paddle.__version__.startswith("2.4"):
        pytest.skip(f"NOT ASKED: paddle {paddle.__version__} can flatten booleans")
    registered = kernels.registered_for_gpu(paddle.fluid.core)
    assert kernels.missing({"flatten_with_xshape": ["bool"]}, registered) == [("flatten_with_xshape", "bool")]


def test_log_is_read_from_where_the_trial_begins() -> None:
    log = [
        "I1 1 api.cc:1] softmax API kernel key: [CPU, NCHW, float64]",
        'I1 1 api.cc:2] softmax kernel: {"input":[]}',
        "BEGIN",
        "I1 1 api.cc:1] reshape API kernel key: [CPU, NCHW, float32]",
        'I1 1 api.cc:2] reshape_with_xshape kernel: {"input":[]}',
        "I1 1 api.cc:1] cast API kernel key: [CPU, Undefined(AnyLayout), bool]",
        'I1 1 api.cc:2] cast kernel: {"input":[]}',
        "I1 1 x.cc:3] PrepareImpl - kernel name: bincount | kernel key: (CPU, Undefined(AnyLayout), int32) | kernel: {",
    ]
    assert kernels.used(log) == {"bincount": ["int32"], "cast": ["bool"], "reshape_with_xshape": ["float32"]}
