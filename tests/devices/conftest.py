"""The stand-in for a plug-in, built once per test file, and the helpers of neighbors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict

import pytest
from build import build_plugin, missing_compiler

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """The environment in which Paddle finds the stand-in."""
    paddle = pytest.importorskip("paddle")
    from stdc.machine import devices

    if int(paddle.__version__.split(".")[0]) < 3:
        pytest.skip(f"NO PLUG-IN TEST: the stand-in is written for Paddle 3, here is {paddle.__version__}")
    if missing_compiler():
        pytest.skip(f"NO PLUG-IN TEST: no {missing_compiler()} on this machine to build the stand-in")
    headers = Path(paddle.sysconfig.get_include())
    if not (headers / "paddle" / "phi" / "backends" / "device_ext.h").is_file():
        pytest.skip("NO PLUG-IN TEST: this Paddle came without device_ext.h")
    folder = tmp_path_factory.mktemp("plugin")
    build_plugin(folder, headers)
    # The stand-in has no kernel that makes strided tensors contiguous; the vendor's plug-in has one.
    environment = {"CUSTOM_DEVICE_ROOT": str(folder), "FLAGS_use_stride_kernel": "0"}
    if devices.is_amd():
        # The CPU's kernels do the work on the plug-in too, and must be the same ones: see `devices.prepare`.
        environment[devices.AMD_VARIABLE] = "5"
    return environment
