"""Ends that are explained: a message for a person, and the program's exit code. None of them shows a traceback."""

from __future__ import annotations

from typing import Any, Sequence, Tuple


class StdcError(Exception):
    """Base of the explained ends."""

    exit_code = 1


class RunError(StdcError):
    """The run cannot go on, and it is not the input's fault: a diverged loss, a dead rank."""


class StoppedError(StdcError):
    """Stopped on request after saving; start again to go on (EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75


class InputError(StdcError):
    """The user's input is wrong; programs print the message on one line and exit with 2.

    The message names the file or key, what was found, what was expected and what to do. It is shown without a
    traceback.
    """

    exit_code = 2


class InputErrors(InputError):
    """Several problems found in one pass, listed together so that the user mends them at once.

    Args:
        summary: one line: what was checked and how many problems were found.
        problems: one line each, naming the file or key.
    """

    #: More lines than this help nobody; the rest is counted.
    shown = 50

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        self.summary = summary
        self.problems = list(problems)
        lines = [summary, *("  " + problem for problem in self.problems[: self.shown])]
        hidden = len(self.problems) - self.shown
        if hidden > 0:
            lines.append(f"  ... and {hidden} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> Tuple[Any, ...]:
        # Errors travel from worker processes as pickles, which would otherwise hold the joined text alone.
        return type(self), (self.summary, self.problems)
