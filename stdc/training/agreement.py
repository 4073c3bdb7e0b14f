"""Which checkpoint all ranks of a run start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable, Optional, Sequence

from stdc.errors import RunError
from stdc.machine import ranks
from stdc.machine.heartbeat import Limits
from stdc.progress import Log
from stdc.training import checkpoints
from stdc.training.checkpoints import Checkpoint


def agreed_checkpoint(
    folder: Path, run_hash: str, *, log: Log, limits: Limits, check: Callable[[Checkpoint], None]
) -> Optional[Checkpoint]:
    """The newest checkpoint that every rank finds whole; every rank calls this.

    Args:
        folder, run_hash, log, check: see `checkpoints.load_newest`.
        limits: how long ranks wait for each other.
    Raises:
        RunError: some ranks find a checkpoint and others none.
        OSError: a checkpoint cannot be read now.
    """
    newest: Optional[int] = None
    attempt = 0
    while True:
        found = checkpoints.load_newest(folder, run_hash, log, check=check, newest=newest)
        mine = -1 if found is None else found.iteration
        answers = ranks.exchange(f"checkpoint-{attempt}", json.dumps(mine), limits.pause_s)
        theirs: Sequence[int] = [json.loads(text) for text in answers]
        if min(theirs) == max(theirs):
            return found
        if min(theirs) < 0:
            without = [str(rank) for rank, iteration in enumerate(theirs) if iteration < 0]
            raise RunError(
                f"rank {', '.join(without)} finds no checkpoint in {folder}, others find iteration {max(theirs)}; "
                "do all ranks see the same folder? Nothing was changed"
            )
        # Each attempt considers fewer checkpoints than the one before.
        newest = min(theirs)
        attempt += 1
        log(f"the ranks find checkpoints of iterations {sorted(set(theirs))}; trying {newest}")
