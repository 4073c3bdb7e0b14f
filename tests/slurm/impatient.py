"""Snakemake as it is, but it looks at its jobs every second; by itself it waits 10 s longer after each look in vain.

For one head on a cluster of its own: a controller that others use would be flooded.
"""

import asyncio
import sys
from pathlib import Path

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

sys.path.append(str(Path(__file__).resolve().parents[2] / "workflow" / "lib"))
import slurm

POLL_S = 1.0


async def _briefly(executor: RemoteExecutor) -> None:
    await asyncio.sleep(POLL_S)


RemoteExecutor.sleep = _briefly
slurm.POLL_S = POLL_S

if __name__ == "__main__":
    main()
