"""Snakemake as `python -m snakemake` starts it, but for one thing: it asks for the state of its jobs every second.

The SLURM plug-in waits ten seconds longer after each look at which no job had ended, which a controller of thousands of
jobs likes. Here it would be most of the time of a run whose jobs take seconds.
"""

from __future__ import annotations

import asyncio
import sys

from snakemake import cli
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def _second(_: RemoteExecutor) -> None:
    await asyncio.sleep(1.0)


if __name__ == "__main__":
    RemoteExecutor.sleep = _second
    sys.exit(cli.main(sys.argv[1:]))
