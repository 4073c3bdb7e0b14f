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
from typing import Any, Dict, List, Mapping, Optional, Tuple

from stdc.errors import InputError
from stdc.machine import architectures, environment
from stdc.machine.environment import AMD_VARIABLE, THREAD_VARIABLES
from stdc.machine.kinds import KINDS
from stdc.recipe import Kernels


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
    if device == "cpu":
        for variable in ("CUSTOM_DEVICE_ROOT", "PADDLE_DISTRI_BACKEND"):
            # Overwrites what is set: in a rank, Paddle's launcher has set it for an accelerator that it found.
            os.environ[variable] = environment.CPU_ONLY[variable]
        if is_amd():
            # Paddle ships an MKL that takes its slow path on AMD processors unless told otherwise. An empty value keeps
            # that path.
            os.environ.setdefault(AMD_VARIABLE, "5")
    if device == "iluvatar_gpu":
        os.environ.setdefault("PADDLE_XCCL_BACKEND", "iluvatar_gpu")
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "xccl")
    _import_quietly()


def kernel_flags(kernels: Kernels) -> Dict[str, bool]:
    """The Paddle flags of a recipe's kernels, for `prepare`."""
    flags = {
        # The exhaustive search picks the kernel that was fastest in a trial, so its choice can vary from run to run.
        "cudnn_exhaustive_search": kernels.cudnn_exhaustive_search and not kernels.deterministic,
        "cudnn_batchnorm_spatial_persistent": kernels.cudnn_batchnorm_spatial_persistent,
    }
    if kernels.deterministic:
        flags["cudnn_deterministic"] = True
    return flags


def select(device: str) -> None:
    """Make `device` the default place of new tensors; in a rank, the device that belongs to the rank.

    Raises:
        InputError: this Paddle has no such device, none is visible, or it has no code for it.
        RuntimeError: Paddle computes elsewhere all the same.
    """
    import paddle

    check_count(device, 1)
    # Without a number Paddle takes the device that its launcher gave to this rank.
    paddle.set_device(device)
    if paddle.get_device().split(":")[0] != device:
        raise RuntimeError(f"device: {device!r} was selected, but paddle computes on {paddle.get_device()!r}")
    if device == "gpu":
        architectures.check_capability(paddle.__version__, tuple(paddle.device.cuda.get_device_capability()))


def join_ranks(device: str) -> None:
    """Connect this rank with the others, and compute on its own `device` afterwards. Raises what `select` raises."""
    import paddle

    paddle.distributed.init_parallel_env()
    # Connecting moves the default place to an accelerator where Paddle finds one, whatever was selected before.
    select(device)


def check_count(device: str, wanted: int) -> None:
    """Refuse more devices than this process sees, before anything is started on them.

    Raises:
        InputError: names how many there are, and what hides the others where that is known.
    """
    import paddle

    visible = count(device)
    if device == "cpu" or visible >= wanted:
        return
    # In the list of visible devices, a repeated or missing entry hides all entries behind it.
    named = "; ".join(f"{name}={os.environ[name]}" for name in environment.VISIBILITY if name in os.environ)
    hidden = f" ({named})" if named else ""
    if visible == 0:
        raise InputError(
            f"device: {device!r} asked for, but paddle {paddle.__version__} sees none{hidden}; "
            "run `doctor` for the reason, or use device cpu"
        )
    raise InputError(
        f"devices: {wanted} x {device} asked for, {visible} visible{hidden}; "
        f"make more visible, or ask for {visible} (STDC_DEVICES={visible}, hardware.devices, --devices)"
    )


def count(device: str) -> int:
    """How many devices of a kind this process sees; for the CPU always 1."""
    import paddle

    if device == "cpu":
        return 1
    if device == "gpu":
        return int(paddle.device.cuda.device_count()) if paddle.is_compiled_with_cuda() else 0
    custom = getattr(paddle.device, "get_available_custom_device", None)
    return sum(name.split(":")[0] == device for name in custom()) if custom else 0


def check_amp(device: str, amp: str) -> None:
    """Refuse mixed precision where Paddle leaves it out with no more than a warning.

    Raises:
        InputError: names the key.
    """
    if device == "cpu" and amp != "none":
        raise InputError(f"train.amp: {amp}, but on a CPU Paddle computes in float32 all the same; set it to none")


def capabilities(device: str) -> List[Tuple[int, int]]:
    """Compute capability (major, minor) of each visible device; [] for kinds that have none."""
    import paddle

    if device != "gpu":
        return []
    return [tuple(paddle.device.cuda.get_device_capability(index)) for index in range(count(device))]


def has_sync_batch_norm(device: str) -> bool:
    """Whether Paddle has a kernel for synchronized batch norm on this kind of device: plug-ins may bring one.

    That it is there does not mean that it is right: see `stdc.nn.sync_batch_norm.find_difference`.
    """
    if device in ("cpu", "gpu"):
        return device == "gpu"
    import paddle

    core = getattr(paddle, "base", None) or paddle.fluid
    kernels = core.core._get_all_register_op_kernels("phi").get("sync_batch_norm", ())
    return any(f"place[Place({device}:" in kernel for kernel in kernels)


def precision(device: str) -> str:
    """How this device multiplies: "float32", or "float32 (tf32)" where the shortened products of Ampere are on.

    Paddle lets cuBLAS and cuDNN round the factors of float32 products to 10 bits of mantissa (TF32) on devices of
    capability 8.0 and later. NVIDIA_TF32_OVERRIDE=0 turns that off for a whole process.
    """
    if device != "gpu" or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return "float32"
    import paddle

    if paddle.device.cuda.get_device_capability()[0] < 8:
        return "float32"
    core = getattr(paddle, "base", None) or paddle.fluid
    switches = [getattr(core.core, f"get_{name}_switch", None) for name in ("cublas", "cudnn")]
    # A Paddle that does not tell has the default, which is on.
    return "float32 (tf32)" if any(switch is None or switch() for switch in switches) else "float32"


def synchronize(device: str) -> None:
    """Wait until the device has finished what was asked of it."""
    import paddle

    if device == "gpu":
        paddle.device.cuda.synchronize()
    elif device != "cpu":
        paddle.device.synchronize()


def splits_sums(device: str) -> bool:
    """Whether results depend on CPU threads and CPU kernels: on the CPU itself."""
    return device == "cpu"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Paddle's says that the device's memory is full."""
    # Paddle raises MemoryError for ResourceExhausted; a plug-in may wrap the same words into another type.
    return isinstance(error, MemoryError) or "ResourceExhausted" in str(error)


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
    facts["environment"] = environment.recorded(os.environ)
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
