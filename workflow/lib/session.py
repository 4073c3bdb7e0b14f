"""One run of Snakemake: its lock, and what it says when a program failed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import IO, List, NamedTuple, Optional

LOCK_FILE = ".stdc.lock"


class Failure(NamedTuple):
    """A rule that failed, as Snakemake's own log tells it."""

    rule: str
    log: Optional[str]
    exit_code: Optional[int]


def hold_lock(folder: Path) -> Optional[IO[str]]:
    """Take the lock of a working directory; it lasts as long as the returned handle is open.

    The kernel drops it with the process, even after a kill -9, which Snakemake's lock files survive.

    Raises:
        BlockingIOError: another run holds it; the text says which.
    """
    handle = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip()
        handle.close()
        raise BlockingIOError(
            f"{folder}: another run is at work in this directory{f' ({holder})' if holder else ''}; "
            "wait for it, or use another one with --directory"
        ) from None
    except OSError as error:
        handle.close()
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        print(f"{folder}: this file system has no locks; do not start a second run here", file=sys.stderr)
        return None
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    handle.flush()
    return handle


def failures(text: str) -> List[Failure]:
    """The failed rules in the text of Snakemake's log, in the order they failed."""
    found = []
    for block in re.split(r"(?=^(?:\[.*\]\n)?Error in rule )", text, flags=re.MULTILINE)[1:]:
        rule = re.search(r"Error in rule (\w+)", block)
        log = re.search(r"^ +log: (.+?)(?: \(check log file\(s\) for error details\))?$", block, re.MULTILINE)
        code = re.search(r"(?:non-zero exit status|exit code) (\d+)", block)
        assert rule is not None
        found.append(Failure(rule.group(1), log and log.group(1), int(code.group(1)) if code else None))
    return found


def last_words(log: Path, lines: int = 12) -> List[str]:
    """The end of a program's log, without empty lines."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
