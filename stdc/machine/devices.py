"""The only place that knows how devices and Paddle versions differ.

Three kinds of device: ``cpu``; ``gpu`` (CUDA, and the CoreX SDK up to 4.x, whose Paddle believes it runs on CUDA);
``iluvatar_gpu`` (Paddle 3 with the Iluvatar plug-in).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from stdc.errors import InputError
from stdc.recipe import Kernels

KINDS = ("cpu", "gpu", "iluvatar_gpu")

#: Variables that `prepare` may set. Provenance records them, and ranks inherit them.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AMD_VARIABLE = "MKL_DEBUG_CPU_TYPE"


def prepare(device: str, threads: int, flags: Optional[Mapping[str, bool]] = None) -> None:
    """Set what has to be set before paddle is imported (threads, kernel flags, collective library), and import it.

    Args:
        device: one of KINDS.
        threads: CPU threads for the arithmetic of one process. Results are equal bit for bit only for an equal count.
        flags: Paddle flags without their ``FLAGS_`` prefix, for example ``cudnn_deterministic``.
    Raises:
        InputError: unknown device, or less than one thread.
        RuntimeError: paddle is imported already, so that the settings would have no effect.
    """
    if device not in KINDS:
        raise InputError(f"device: {device!r} is not one of {', '.join(KINDS)}")
    if threads < 1:
        raise InputError(f"threads: {threads}; at least 1 is needed")
    if "paddle" in sys.modules:
        raise RuntimeError("devices.prepare: paddle is imported already")
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    for name, value in (flags or {}).items():
        os.environ["FLAGS_" + name] = "1" if value else "0"
    os.environ.setdefault("GLOG_minloglevel", "2")
    if device == "cpu" and is_amd():
        # Paddle ships an MKL that takes its slow path on AMD processors unless told otherwise. An empty value keeps it.
        os.environ.setdefault(AMD_VARIABLE, "5")
    if device == "iluvatar_gpu":
        os.environ.setdefault("PADDLE_XCCL_BACKEND", "iluvatar_gpu")
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "xccl")
    _import_quietly()


def kernel_flags(kernels: Kernels) -> Dict[str, bool]:
    """The Paddle flags of a recipe's kernels, for `prepare`."""
    flags = {
        # The exhaustive search picks kernels by their time, so by chance.
        "cudnn_exhaustive_search": kernels.cudnn_exhaustive_search and not kernels.deterministic,
        "cudnn_batchnorm_spatial_persistent": kernels.cudnn_batchnorm_spatial_persistent,
    }
    if kernels.deterministic:
        flags["cudnn_deterministic"] = True
    return flags


def select(device: str) -> None:
    """Make `device` the default place of new tensors; in a rank, the device that belongs to the rank.

    Raises:
        InputError: this Paddle has no such device, or none is visible.
    """
    import paddle

    if count(device) < 1:
        raise InputError(
            f"device: {device!r} asked for, but paddle {paddle.__version__} sees none; "
            "run `doctor` for the reason, or use device cpu"
        )
    # Without a number paddle takes the one its launcher gave to this rank.
    paddle.set_device(device)


def count(device: str) -> int:
    """How many devices of a kind this process sees; for the CPU always 1."""
    import paddle

    if device == "cpu":
        return 1
    if device == "gpu":
        return int(paddle.device.cuda.device_count()) if paddle.is_compiled_with_cuda() else 0
    custom = getattr(paddle.device, "get_available_custom_device", None)
    return sum(name.split(":")[0] == device for name in custom()) if custom else 0


def has_sync_batch_norm(device: str) -> bool:
    """Whether Paddle's own synchronized batch norm runs on this kind of device."""
    return device == "gpu"


def synchronize(device: str) -> None:
    """Wait until the device has finished what was asked of it."""
    import paddle

    if device == "gpu":
        paddle.device.cuda.synchronize()
    elif device != "cpu":
        paddle.device.synchronize()


def backend(device: str) -> str:
    """A short name of what computes, for protocols: ``paddle 3.3.1 cpu``."""
    import paddle

    return f"paddle {paddle.__version__} {device}"


def describe(device: str) -> Dict[str, Any]:
    """What computes, for provenance: model name, count, driver libraries, environment that changes results."""
    import paddle

    facts: Dict[str, Any] = {"kind": device, "visible": count(device), "paddle": paddle.__version__}
    if device == "cpu":
        facts["name"] = cpu_name()
    elif device == "gpu":
        facts["name"] = paddle.device.cuda.get_device_name(0)
        facts["cuda"] = paddle.version.cuda()
        facts["cudnn"] = paddle.version.cudnn()
    variables = (*THREAD_VARIABLES, AMD_VARIABLE, "CUDA_VISIBLE_DEVICES")
    facts["environment"] = {name: os.environ[name] for name in variables if name in os.environ}
    facts["environment"].update({name: value for name, value in os.environ.items() if name.startswith("FLAGS_")})
    return facts


def cpu_name() -> str:
    """The processor's name as the kernel tells it."""
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def is_amd() -> bool:
    """Whether the processor is AMD's."""
    return "AuthenticAMD" in _cpuinfo()


def _import_quietly() -> None:
    """Import paddle without its notices (a compile cache, more than one thread): a person cannot act on them."""
    heard = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(heard):
            warnings.simplefilter("ignore")
            import paddle  # noqa: F401
    except BaseException:
        sys.stderr.write(heard.getvalue())
        raise
    # Paddle says once per process that batch norm updates its running statistics in training. It always has.
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
