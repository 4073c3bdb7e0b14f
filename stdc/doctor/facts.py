"""What the machine holds. Nothing here judges; nothing here imports paddle."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Dict, List, Optional

from stdc.machine import commands, environment

_ROOT = Path(__file__).resolve().parents[2]
#: A driver that hangs must not hang the doctor.
_TOOL_LIMIT_S = 10.0
_COREX = Path("/usr/local/corex")
#: CoreX up to 4.x is a `gpu` too.
_NODES = {"gpu": ("nvidia[0-9]*", "iluvatar[0-9]*"), "iluvatar_gpu": ("iluvatar[0-9]*",)}


def tool_output(tool: str, *folders: Path) -> Optional[str]:
    """What `nvidia-smi` or `ixsmi` prints; None: not there, or no answer in time.

    Args:
        folders: where to look besides PATH.
    """
    path = shutil.which(tool) or next((str(folder / tool) for folder in folders if (folder / tool).is_file()), None)
    if path is None:
        return None
    answer = commands.ask([path], _TOOL_LIMIT_S)
    return answer.output if answer.code is not None else None


def nvidia_smi() -> Optional[str]:
    """See `tool_output`."""
    return tool_output("nvidia-smi")


def ixsmi() -> Optional[str]:
    """See `tool_output`."""
    return tool_output("ixsmi", _COREX / "bin")


def corex_sdk(paddle_version: str) -> str:
    """Version of the CoreX SDK: from the name of its Paddle, else from the folder it is linked to; empty: unknown."""
    _, separator, local = paddle_version.partition("+corex.")
    if separator:
        return local
    _, separator, version = _COREX.resolve().name.partition("corex-")
    return version if separator else ""


def workflow_python(named: Optional[str]) -> Optional[Dict[str, str]]:
    """The interpreter that has Snakemake, asked for its versions; None: none was found.

    Args:
        named: its path, where the caller knows it.
    """
    path = named or _find_workflow_python()
    if path is None:
        return None
    code = "import platform, snakemake; print(platform.python_version(), snakemake.__version__)"
    answer = commands.ask([path, "-c", code], _TOOL_LIMIT_S * 3)
    words = answer.output.split()
    if answer.code != 0 or len(words) != 2:
        last = answer.output.strip().splitlines()[-1:] or ["no answer"]
        return {"path": path, "error": last[0]}
    return {"path": path, "python": words[0], "snakemake": words[1]}


def _find_workflow_python() -> Optional[str]:
    beside = _ROOT / ".venv" / "workflow" / "bin" / "python"
    if beside.exists():
        return str(beside)
    snakemake = shutil.which("snakemake")
    if snakemake is None:
        return None
    # The environment's own interpreter lies beside the command.
    python = Path(snakemake).resolve().parent / "python"
    return str(python) if python.exists() else sys.executable


def device_nodes(device: str) -> List[Path]:
    """Device files of the cards that are in this machine, or in this container."""
    return [node for pattern in _NODES.get(device, ()) for node in sorted(Path("/dev").glob(pattern))]


def present_devices(device: str) -> int:
    """How many devices of a kind the profiles would ask for on this machine; 0: none."""
    variables = ("CUDA_VISIBLE_DEVICES", "ILUVATAR_GPU_VISIBLE_DEVICES")
    visible = next((os.environ[name] for name in variables if name in os.environ), None)
    named = environment.cuda_devices(visible) if device in _NODES else None
    return len(device_nodes(device)) - len(closed_device_nodes(device)) if named is None else named


def closed_device_nodes(device: str) -> List[str]:
    """Device files that are there and that this user may not open."""
    return [str(node) for node in device_nodes(device) if not _opens(node)]


def _opens(node: Path) -> bool:
    """Tried, not asked: a container's or a scheduler's cgroup forbids what the file's permissions allow."""
    try:
        os.close(os.open(str(node), os.O_RDWR))
    except OSError:
        return False
    return True


def shared_memory_free(folder: str = "/dev/shm") -> Optional[int]:
    """Free bytes; None: not there or not writable."""
    if not os.access(folder, os.W_OK):
        return None
    return shutil.disk_usage(folder).free


def memory_available() -> int:
    """Bytes that processes may still take, the limit of a container included."""
    available = 0
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        # "max" where there is no limit.
        with contextlib.suppress(ValueError, IndexError):
            left = int(_lines(limit)[0]) - int(_lines(used)[0])
            available = min(available, max(left, 0))
    return available


def disk_free(folder: Path) -> int:
    """Free bytes where `folder` is, or will be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(str(folder)).free


def folder_bytes(folder: Optional[Path]) -> int:
    """Bytes of the files below `folder`; 0 where there is none."""
    if folder is None or not folder.is_dir():
        return 0
    total = 0
    for path in folder.rglob("*"):
        # Others may be deleting them.
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def write_error(folder: Path) -> Optional[str]:
    """Why no file can be made in `folder`; None: it can. Leaves nothing behind."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    trial = existing / f".doctor-{os.getpid()}"
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        return f"{error.strerror} ({existing})"
    return None


def _lines(path: str) -> List[str]:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
