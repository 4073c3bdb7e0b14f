"""Errors shown to the user as a message, each with the program's exit code. None of them shows a traceback."""

from __future__ import annotations

from typing import Any, Optional, Sequence, TextIO, Tuple


def shown(text: object) -> str:
    """A name or a message that comes from outside, fit for a terminal: on one line, and nothing in it acts.

    Escape sequences, marks that turn the direction of writing, and bytes that are no text are spelled out.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def shortened(text: object, longest: int = 120) -> str:
    """`shown`, and cut after so many characters: what comes from outside can be of any length."""
    whole = str(text)
    # Escapes are longer than what they stand for, so it may have to be cut twice.
    escaped = shown(whole[: longest + 1])
    return escaped if len(escaped) <= longest else escaped[:longest] + "…"


def shown_lines(text: object) -> str:
    """A message of several lines, each fit for a terminal."""
    return "\n".join(shown(line) for line in str(text).split("\n"))


class StdcError(Exception):
    """Base of the errors that a message explains."""

    exit_code = 1

    def show(self, program: str, terminal: TextIO, log: Optional[TextIO]) -> None:
        """Write the message, with the program's name in front, once to the terminal and once to the log."""
        for stream in (terminal, log):
            if stream is not None:
                stream.write(f"{program}: {shown_lines(self)}\n")
                stream.flush()


class RunError(StdcError):
    """The run cannot go on, and it is not the input's fault: a diverged loss, a dead rank."""


class OutOfMemoryError(RunError):
    """The first step of a training does not fit into the memory of the device; it can begin again with less."""


class UnusableKernelError(RunError):
    """A kernel of Paddle's computes wrongly on this device; the run can begin again without it."""


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
    """Several problems found in one pass, listed together so that the user fixes them at once.

    Args:
        summary: one line: what was checked and how many problems were found.
        problems: one line each, naming the file or key.
    """

    #: More lines than this help nobody on a terminal; the rest is counted there, and listed in the log.
    shown = 50

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        self.summary = summary
        self.problems = list(problems)
        super().__init__(self._listed(self.shown))

    def __reduce__(self) -> Tuple[Any, ...]:
        # Errors travel from worker processes as pickles, which would otherwise hold the joined text alone.
        return type(self), (self.summary, self.problems)

    def show(self, program: str, terminal: TextIO, log: Optional[TextIO]) -> None:
        """The first problems on the terminal, all of them in the log."""
        for stream, count in ((terminal, self.shown), (log, len(self.problems))):
            if stream is not None:
                stream.write(f"{program}: {shown_lines(self._listed(count))}\n")
                stream.flush()

    def _listed(self, count: int) -> str:
        lines = [self.summary, *("  " + problem for problem in self.problems[:count])]
        hidden = len(self.problems) - count
        if hidden > 0:
            lines.append(f"  ... and {hidden} more")
        return "\n".join(lines)
