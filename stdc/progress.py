"""Lines for the person who waits: where they go, and one about long work with count, rate and time left."""

from __future__ import annotations

import sys
import time
from typing import Callable, Optional, TextIO

from stdc.units import clock_text

#: Seconds between lines: a terminal rewrites one line, a log file grows with each.
TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 30.0

#: Receives lines for the person who waits; a program writes them to the terminal and to its log.
Log = Callable[[str], None]


class Progress:
    """Counts steps and says how far the work is, on stderr.

    Args:
        what: unit of the count, in the plural: `frames`.
        total: steps expected.
        stream: where to write; None means stderr as it is when the first line is written.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        what: str,
        total: int,
        stream: Optional[TextIO] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._stream = stream
        self._clock = clock
        self._start = self._last = clock()

    def step(self, count: int = 1) -> None:
        """Count `count` more steps as done."""
        self.done += count
        now = self._clock()
        stream = self._stream or sys.stderr
        terminal = stream.isatty()
        if now - self._last < (TERMINAL_INTERVAL_S if terminal else LOG_INTERVAL_S):
            return
        self._last = now
        rate = self.done / (now - self._start)
        left = clock_text((self.total - self.done) / rate) if rate > 0 else "?"
        line = f"{self.done}/{self.total} {self.what}, {rate:.3g}/s, {left} left"
        stream.write(f"\r{line}\033[K" if terminal else f"{line}\n")
        stream.flush()

    def finish(self) -> None:
        """Write the last line, how many in what time; none after short work, of which nothing was said."""
        stream = self._stream or sys.stderr
        seconds = self._clock() - self._start
        rate = f" ({self.done / seconds:.3g}/s)" if seconds > 0 else ""
        if stream.isatty():
            stream.write("\r\033[K")
        if seconds < LOG_INTERVAL_S:
            return
        stream.write(f"{self.done} {self.what} in {seconds:.1f} s{rate}\n")
        stream.flush()
