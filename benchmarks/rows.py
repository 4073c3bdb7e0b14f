"""What a benchmark is: a module with PARTS, functions that measure and give rows of the table.

    # benchmarks/thing.py; add "thing" to MODULES in benchmarks/bench.py
    def work(bench: Bench) -> Iterator[Row]:
        pair = in_turns(ours, theirs, bench.rounds)
        yield Row("what is done", "ms of CPU", pair=pair, must=2.5, aim=3.5, equal="bit for bit")

    PARTS = (work,)             # a part that fails takes no other with it

Both sides of a pair run in this process, one after the other, in every round: a busy machine slows both. What is
random is drawn once and given to both sides.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

#: On AMD processors the value 5 makes Paddle's MKL up to four times faster, for both sides. It must be set
#: before Paddle is loaded.
AMD_VARIABLE = "MKL_DEBUG_CPU_TYPE"


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a benchmark needs to know.

    Attributes:
        frames: folder of realistic frames of 2048x1024 in the layout of Cityscapes (split "train"): images, polygons,
            `*_labelIds.png` and `*_labelTrainIds.png`.
        scratch: empty folder to write into.
        quick: three minutes for all benchmarks together, so one or two rounds of the slow ones.
        rounds: pairs of runs per row.
        peer: whether PaddleSeg 2.7 can be imported here.
    """

    frames: Path
    scratch: Path
    quick: bool
    rounds: int
    peer: bool


@dataclasses.dataclass(frozen=True)
class Pair:
    """Figures of both sides over all rounds, in one unit; less is better.

    Attributes:
        ours, peer: one figure per round.
    """

    ours: Tuple[float, ...]
    peer: Tuple[float, ...]

    def ratios(self) -> List[float]:
        """The peer's figure over ours, by round, sorted: above 1, stdc is faster."""
        return sorted(theirs / ours for ours, theirs in zip(self.ours, self.peer))


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of RESULTS.md.

    Attributes:
        work: what is done, and on how much.
        unit: of the figures, such as "ms of CPU"; less is better.
        pair: where there is a peer.
        ours: the figure where there is none; the median of the pair is taken otherwise.
        limit: what the machine could do at best, in the same unit, and how that is known in `note`.
        must, aim: the ratio to reach, with a peer; the figure to stay below, without.
        equal: how the result compares with the peer's: "bit for bit", "1 of 2,097,152 pixels", …
        note: what a reader has to know to believe the figure.
    """

    work: str
    unit: str
    pair: Optional[Pair] = None
    ours: Optional[float] = None
    limit: Optional[float] = None
    must: Optional[float] = None
    aim: Optional[float] = None
    equal: str = ""
    note: str = ""

    @property
    def figure(self) -> float:
        """Ours."""
        if self.pair is not None:
            return statistics.median(self.pair.ours)
        assert self.ours is not None, self.work
        return self.ours

    @property
    def ratio(self) -> Optional[float]:
        """Median of the peer's figure over ours."""
        return statistics.median(self.pair.ratios()) if self.pair is not None else None

    @property
    def met(self) -> Optional[bool]:
        """Whether what must be reached is; None where nothing must."""
        if self.must is None:
            return None
        return self.ratio >= self.must if self.ratio is not None else self.figure <= self.must


def in_turns(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
    scale: float = 1000.0,
    limit_s: float = 120.0,
) -> Pair:
    """Run both sides alternately, after one pair that is not counted.

    Args:
        clock: seconds; CPU seconds of this process and all its threads by default.
        scale: of the figures: 1000 for milliseconds.
        limit_s: after this time no further round begins, but for the first.
    """
    figures = in_rounds([ours, theirs], rounds, clock, scale, limit_s)
    return Pair(tuple(figures[0]), tuple(figures[1]))


def in_rounds(
    sides: Sequence[Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
    scale: float = 1.0,
    limit_s: float = 300.0,
) -> List[List[float]]:
    """The figures of each side, one per round; see `in_turns`."""
    figures: List[List[float]] = [[] for _ in sides]
    begun = time.monotonic()
    for number in range(rounds + 1):
        if number > 1 and time.monotonic() - begun > limit_s:
            break
        for run, kept in zip(sides, figures):
            started = clock()
            run()
            if number:
                kept.append((clock() - started) * scale)
    return figures


def timed(run: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.process_time) -> List[float]:
    """Seconds of each of `rounds` runs, after one that is not counted."""
    run()
    seconds = []
    for _ in range(rounds):
        started = clock()
        run()
        seconds.append(clock() - started)
    return seconds


def run_json(program: str, words: Sequence[Any], threads: int, amd: bool) -> Any:
    """What a program prints on its last line, as JSON; it runs in a process with its own threads and variable.

    Args:
        amd: whether `AMD_VARIABLE` is set.
    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != AMD_VARIABLE}
    environment.update({f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")})
    if amd:
        environment[AMD_VARIABLE] = "5"
    command = [sys.executable, program, *map(str, words)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])
