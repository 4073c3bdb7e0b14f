"""What the kernel allots to this process: CPUs and memory, by affinity and by control groups of both versions.

Python counts the machine's CPUs, Snakemake those of the affinity mask; the quota of a container (`docker run --cpus`,
`limits.cpu` of a pod) is in neither. This file imports the standard library alone: the workflow runs it by its path.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterator, Optional

ROOT = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")


def usable_cpus(root: Path = ROOT, self_file: Path = SELF) -> int:
    """How many CPUs this process can keep busy: the affinity mask, or the quota where that is less; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root, self_file)
    # Rounded up: a quota of 1.5 CPUs keeps two processes busy most of the time.
    return allowed if quota is None else max(1, min(allowed, -int(-quota // 1)))


def cpu_quota(root: Path = ROOT, self_file: Path = SELF) -> Optional[float]:
    """CPUs that the control groups of this process may use together, the tightest of them; None without a limit."""
    quotas = []
    for folder in _folders("cpu", root, self_file):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        # "max", or -1 in version 1, is no limit.
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0 and int(words[0]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_kills(root: Path = ROOT, self_file: Path = SELF) -> int:
    """How many processes the kernel has killed in this control group for want of memory."""
    counts = []
    for folder in _folders("memory", root, self_file):
        for name in ("memory.events", "memory.oom_control"):
            lines = (line.split() for line in _read(folder / name).splitlines())
            counts += [int(words[1]) for words in lines if len(words) == 2 and words[0] == "oom_kill"]
    return max(counts, default=0)


def memory_limit(root: Path = ROOT, self_file: Path = SELF) -> Optional[int]:
    """Bytes that the control groups of this process may hold, the tightest of them; None without a limit."""
    limits = []
    for folder in _folders("memory", root, self_file):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            # Version 1 writes a number near 2^63 where there is no limit.
            if text.isdigit() and int(text) < 1 << 60:
                limits.append(int(text))
    return min(limits, default=None)


def _folders(controller: str, root: Path, self_file: Path) -> Iterator[Path]:
    """The control groups that this process is in, from its own up to the root of what is mounted."""
    paths: Dict[str, str] = {}
    for line in _read(self_file).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        paths.update(dict.fromkeys(names.split(","), path))
    # Version 2 has one tree, in whose lines no controller is named; version 1 has a folder per controller.
    for base, group in ((root / controller, paths.get(controller)), (root, paths.get(""))):
        if group is None:
            continue
        # Without a namespace of its own, a container sees the host's path and its own group at the root.
        folder = base / group.lstrip("/")
        if ".." in folder.parts or not folder.is_dir():
            folder = base
        while True:
            yield folder
            if folder == base:
                break
            folder = folder.parent


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
