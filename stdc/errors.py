"""The one exception that means: the user's input is wrong."""

from __future__ import annotations

from typing import Sequence


class InputError(Exception):
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
