"""Whether others computed on this machine while a speed was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Mapping, Optional

from stdc.machine import leases

#: Cores that others may keep busy before a measurement counts as taken beside them: a machine always does a little.
QUIET_CORES = 0.5
_STAT = Path("/proc/stat")


class Neighbors:
    """Looks at the machine from its making until `beside` is called.

    Args:
        device: kind of device that is measured.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._held = leases.held_by_others(device)
        self._started, self._busy, self._own = time.monotonic(), busy_seconds(_STAT), _own_seconds()

    def beside(self) -> Mapping[str, Any]:
        """{"others": whether anyone else computed, "devices": held by others, "cpu_cores": that they kept busy}.

        The cores are those of the whole machine, also where this process is in a container.
        """
        seconds, busy = time.monotonic() - self._started, busy_seconds(_STAT)
        held = max(self._held, leases.held_by_others(self._device))
        cores: Optional[float] = None
        if busy is not None and self._busy is not None and seconds > 0:
            cores = round(max(0.0, busy - self._busy - (_own_seconds() - self._own)) / seconds, 1)
        return {"others": held > 0 or (cores or 0.0) >= QUIET_CORES, "devices": held, "cpu_cores": cores}


def words(beside: Mapping[str, Any]) -> str:
    """What `Neighbors.beside` found, to follow a figure: ", beside others (…)"; empty where nobody else computed."""
    if not beside["others"]:
        return ""
    parts = [f"devices of others: {beside['devices']}"] if beside["devices"] else []
    parts += [f"{beside['cpu_cores']:g} CPU cores kept busy"] if beside["cpu_cores"] else []
    return f", beside others ({', '.join(parts)})"


def busy_seconds(stat: Path) -> Optional[float]:
    """Seconds that all cores together have computed since the start of the machine; None where it does not tell."""
    try:
        fields = stat.read_text(encoding="ascii").splitlines()[0].split()
        user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[1:8])
    except (OSError, ValueError, IndexError):
        return None
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system
