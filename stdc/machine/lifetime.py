"""Processes that never outlive the one that started them.

A `kill -9` runs no handler: without this, data workers, ranks and whole trainers live on, hold locks and waste devices.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import List, NoReturn, Optional

#: From linux/prctl.h.
_PR_SET_PDEATHSIG = 1


def die_with_parent(expected_parent: Optional[int] = None) -> None:
    """Ask the kernel to kill this process as soon as its parent ends. Linux only; does nothing elsewhere.

    Call it first thing in a child, before heavy imports.

    Args:
        expected_parent: pid of the process that started this one. Where it is known, a parent that ended before this
            call is noticed too.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if expected_parent is not None and os.getppid() != expected_parent:
        os.kill(os.getpid(), signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; one that was killed and not yet waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # The state follows the name, which stands in brackets and may hold anything.
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1]
    except OSError:
        return True
    return state not in ("Z", "X")


def begin_again(argv: List[str]) -> NoReturn:
    """Replace this process by a new one of the same number: `python argv…`. Open files and locks of this one end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *argv])
