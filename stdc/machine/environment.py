"""Environment variables by exact name: what ranks inherit, what provenance may show, which devices are visible.

Paddle's launcher writes its whole environment into the ranks' logs, and provenance becomes part of a page that is
shared. So both take names from lists, never by prefix: `NVIDIA_API_KEY` begins like `NVIDIA_TF32_OVERRIDE`.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Mapping, Optional

from stdc.errors import InputError

#: Threads of the CPU libraries; equal results need equal counts.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: Which instructions MKL takes on a processor that is not Intel's.
AMD_VARIABLE = "MKL_DEBUG_CPU_TYPE"

#: Paddle's flags that can change a result, beyond those that a recipe sets.
_RESULT_FLAGS = (
    "FLAGS_cudnn_deterministic", "FLAGS_cudnn_exhaustive_search", "FLAGS_cudnn_batchnorm_spatial_persistent",
    "FLAGS_conv_workspace_size_limit", "FLAGS_embedding_deterministic", "FLAGS_enable_cublas_tensor_op_math",
    "FLAGS_gemm_use_half_precision_compute_type", "FLAGS_max_inplace_grad_add", "FLAGS_sort_sum_gradient",
    "FLAGS_use_autotune", "FLAGS_use_mkldnn", "FLAGS_use_onednn", "FLAGS_use_stride_kernel",
)  # fmt: skip

#: Shown in provenance: what can change a result. Every value is a number, a switch or a list of devices.
RESULTS = (
    *THREAD_VARIABLES, AMD_VARIABLE, "MKL_CBWR", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE", "ILUVATAR_GPU_VISIBLE_DEVICES", *_RESULT_FLAGS,
)  # fmt: skip

#: What a user, a scheduler or a container's toolkit hides devices by.
VISIBILITY = (
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ILUVATAR_GPU_VISIBLE_DEVICES", "IX_VISIBLE_DEVICES",
    "ILUVATAR_VISIBLE_DEVICES", "ILUVATAR_COREX_VISIBLE_DEVICES",
)  # fmt: skip

_PROCESS = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "VIRTUAL_ENV", "XDG_CACHE_HOME", "MPLCONFIGDIR",
    "PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONWARNINGS", "PYTHONFAULTHANDLER",
    "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONPYCACHEPREFIX",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
    "STDC_COMMIT", "STDC_COMMIT_DIRTY", "STDC_DIE_WITH_PARENT", "STDC_LEASE",
)  # fmt: skip

_CPU = (
    "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "OMP_DYNAMIC", "OMP_SCHEDULE", "OMP_STACKSIZE", "KMP_AFFINITY",
    "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY", "MKL_DYNAMIC",
)  # fmt: skip

_PADDLE = (
    "CUSTOM_DEVICE_ROOT", "PADDLE_XCCL_BACKEND", "PADDLE_DISTRI_BACKEND", "PADDLE_PG_TIMEOUT",
    "GLOG_v", "GLOG_vmodule", "GLOG_minloglevel",
    "FLAGS_allocator_strategy", "FLAGS_auto_growth_chunk_size_in_mb", "FLAGS_benchmark", "FLAGS_call_stack_level",
    "FLAGS_check_nan_inf", "FLAGS_check_nan_inf_level", "FLAGS_eager_delete_tensor_gb", "FLAGS_enable_async_trace",
    "FLAGS_fraction_of_cpu_memory_to_use", "FLAGS_fraction_of_gpu_memory_to_use", "FLAGS_gpu_memory_limit_mb",
    "FLAGS_initial_gpu_memory_in_mb", "FLAGS_memory_fraction_of_eager_deletion", "FLAGS_nccl_blocking_wait",
    "FLAGS_nccl_dir", "FLAGS_nvidia_package_dir", "FLAGS_reallocate_gpu_memory_in_mb", "FLAGS_stop_check_timeout",
    "FLAGS_tcp_max_syn_backlog", "FLAGS_use_pinned_memory", "FLAGS_use_shm_cache", "FLAGS_use_system_allocator",
)  # fmt: skip

_NVIDIA = (
    "CUDA_CACHE_DISABLE", "CUDA_CACHE_MAXSIZE", "CUDA_CACHE_PATH", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_DEVICE_ORDER",
    "CUDA_HOME", "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_MPS_LOG_DIRECTORY", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_PATH",
    "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES",
    "NCCL_ALGO", "NCCL_ASYNC_ERROR_HANDLING", "NCCL_BUFFSIZE", "NCCL_CROSS_NIC", "NCCL_DEBUG", "NCCL_DEBUG_SUBSYS",
    "NCCL_IB_DISABLE", "NCCL_IB_GID_INDEX", "NCCL_IB_HCA", "NCCL_IB_TC", "NCCL_IB_TIMEOUT", "NCCL_LAUNCH_MODE",
    "NCCL_MAX_NCHANNELS", "NCCL_MIN_NCHANNELS", "NCCL_NET", "NCCL_NET_GDR_LEVEL", "NCCL_NTHREADS", "NCCL_NVLS_ENABLE",
    "NCCL_P2P_DISABLE", "NCCL_P2P_LEVEL", "NCCL_PROTO", "NCCL_SHM_DISABLE", "NCCL_SOCKET_FAMILY",
    "NCCL_SOCKET_IFNAME", "NCCL_SOCKET_NTHREADS", "NCCL_TOPO_FILE", "GLOO_SOCKET_IFNAME",
)  # fmt: skip

#: Variables that a rank may inherit.
INHERITED: FrozenSet[str] = frozenset((*_PROCESS, *RESULTS, *_CPU, *_PADDLE, *_NVIDIA, *VISIBILITY))


def of_ranks(environment: Mapping[str, str], device: str, nodes: int = 1) -> Dict[str, str]:
    """The environment of the launcher and its ranks: allowed names, and what keeps them on `device`.

    Args:
        environment: the one of this process.
        device: kind of device, see `stdc.machine.devices.KINDS`.
        nodes: machines that the ranks are on.
    """
    kept = {name: value for name, value in environment.items() if name in INHERITED}
    if device == "cpu":
        kept.update(CPU_ONLY)
        # The launcher of Paddle 2.4 looks for a plug-in wherever this variable is set, even to nothing.
        kept.pop("PADDLE_XCCL_BACKEND", None)
        if nodes == 1:
            # Gloo would look up the host name, which a container without network lacks.
            kept.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return kept


#: Keeps Paddle on the CPU where the machine has accelerators too. Its launcher prefers those: it would give each rank
#: one, and fail where there are fewer than ranks. An empty root means that no plug-in is loaded. "all" names no device
#: for CUDA; the launcher reads it as "ask CUDA", and learns of none. (An empty list would make the launcher fail.)
CPU_ONLY: Mapping[str, str] = {
    "CUSTOM_DEVICE_ROOT": "",
    "CUDA_VISIBLE_DEVICES": "all",
    "PADDLE_DISTRI_BACKEND": "gloo",
}


def recorded(environment: Mapping[str, str]) -> Dict[str, str]:
    """What provenance records of an environment: the variables that can change a result."""
    return {name: environment[name] for name in RESULTS if name in environment}


def asked_devices(environment: Mapping[str, str]) -> Optional[int]:
    """How many devices the user asks for by STDC_DEVICES; None: the user does not say.

    Raises:
        InputError: it is no such number.
    """
    text = environment.get("STDC_DEVICES", "")
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise InputError(f"STDC_DEVICES: {text!r}; a number of devices, at least 1, is expected")
    return int(text)


def cuda_devices(visible: Optional[str]) -> Optional[int]:
    """How many devices a value of CUDA_VISIBLE_DEVICES leaves visible at most; None: it is not set, so all.

    By CUDA's rules: the list ends at the first entry that is no device, of MIG instances a process sees one, and a list
    that names a device twice shows none.
    """
    if visible is None:
        return None
    entries: List[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry in entries:
            return 0
        if entry.startswith("MIG-"):
            return max(len(entries), 1)
        if not (entry.isdigit() or entry.startswith("GPU-")):
            break
        entries.append(entry)
    return len(entries)
