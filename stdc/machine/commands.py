"""Short commands and what they say: the questions to a machine's own tools."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from typing import Mapping, NamedTuple, Optional, Sequence

from stdc.machine.lifetime import die_with_parent


class Answer(NamedTuple):
    """What a command said. `code` is None where it did not end in time, 127 where there is no such command."""

    code: Optional[int]
    output: str


def ask(command: Sequence[str], limit_s: float, environment: Optional[Mapping[str, str]] = None) -> Answer:
    """Run a short command and collect what it prints; nothing that it started outlives the limit.

    Args:
        command: program and arguments.
        limit_s: seconds after which it is killed with its process group.
        environment: variables to add to this process's own.
    """
    with tempfile.TemporaryFile() as output:
        # A file, not a pipe: a grandchild that lives on would keep a pipe open, and this process waiting.
        try:
            process = subprocess.Popen(
                list(command),
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            return Answer(127, f"{command[0]}: {error.strerror}")
        code: Optional[int] = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(limit_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        return Answer(code, output.read().decode("utf-8", "replace"))
