"""What a person sees of a run: a line when a stage starts, a line when it ends, and what failed.

Snakemake tells its loggers of every job as an event. `StageLines` takes the place of its handler for the terminal;
`Failures` collects the jobs that failed, however quiet the terminal is. Snakemake's own log below .snakemake/log keeps
everything. No plug-in is needed, and where Snakemake's loggers look different one day, its own lines are shown.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, TextIO, Tuple

NOTHING_TO_DO = "Nothing to be done"

#: What Snakemake says beside its events and nobody needs to read on a terminal.
_NOISE = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs...",
    "Using shell: ",
    "Select jobs to execute...",
    "Execute ",
    "Waiting for more resources.",
    "Elapsed time: ",
    "Conda environments: ignored",
    "Shutting down, this might take some time.",
    # On a cluster without accounts the plug-in says three lines for each job.
    "No SLURM account given, trying to guess.",
    "No account was given, not able to get a SLURM account",
    "Unable to guess SLURM account.",
    "Exiting because a job execution failed.",
    "host: ",
)
_NOISY_EVENTS = ("workflow_started", "resources_info", "job_started", "progress", "shellcmd", "rulegraph")
#: What follows the event of a failed job, which is told already.
_TOLD = re.compile(r"(?:RuleException:\n)?CalledProcessError|WorkflowError:\nAt least one job did not complete")


class FailedJob(NamedTuple):
    """A job that failed, as Snakemake's event tells it.

    Attributes:
        rule: its rule.
        label: the rule and what tells its jobs apart, such as "train (seed 0)".
        log: the log that its program writes.
        message: what a cluster said; empty elsewhere.
        signal: name of the signal that ended it, where one did.
    """

    rule: str
    label: str
    log: str
    message: str = ""
    signal: str = ""


class Failures(logging.Handler):
    """Collects the jobs that failed; a job that was tried again counts once.

    Args:
        failed: called with a failed job's number and its program's log, before Snakemake decides on another attempt.
    """

    def __init__(self, failed: Callable[[int, str], None] = lambda job, log: None) -> None:
        super().__init__()
        self._failed = failed
        self._jobs: Dict[str, FailedJob] = {}
        self._labels: Dict[int, str] = {}
        self._died: Dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Note what an event of Snakemake says of a failed job; other events are passed over."""
        event, given = getattr(record, "event", None), record.__dict__
        if event == "job_info":
            self._labels[given["jobid"]] = label_of(given["rule_name"], given.get("wildcards") or {})
        elif event == "job_finished":
            # This job had failed before, and its next attempt went well.
            label = self._labels.get(_job_id(given), "")
            self._jobs = {log: job for log, job in self._jobs.items() if job.label != label}
        elif event == "job_error":
            logs = given.get("log") or [""]
            self._failed(_job_id(given), logs[0])
            label = self._labels.get(_job_id(given), given["rule_name"])
            # On a cluster the scheduler's log follows the program's.
            message = str(given.get("rule_msg") or "")
            self._jobs[logs[0]] = FailedJob(given["rule_name"], label, logs[0], message, self._signal(logs[0]))
        elif record.levelno >= logging.ERROR and _TOLD.match(record.getMessage()):
            died = re.search(r"died with <Signals\.(\w+)", record.getMessage())
            if died:
                self._died[record.getMessage()] = died.group(1)

    def _signal(self, log: str) -> str:
        """What ended the command that writes this log: Snakemake quotes the command before it tells the failed job."""
        return next((signal for text, signal in self._died.items() if log and f"--log {log}" in text), "")

    def jobs(self) -> List[FailedJob]:
        """In the order in which they failed."""
        return list(self._jobs.values())


class StageLines(logging.Handler):
    """Writes a line for each stage that starts or ends, and everything that is no event of a job.

    Args:
        default: Snakemake's handler, which formats what is shown as it is, and whose filter follows `--quiet`.
        closing: lines that end a run with nothing to do.
        ending: says how the program that writes a log ended: "failed", or "stopped" on request.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        default: logging.StreamHandler[TextIO],
        closing: Callable[[], Iterable[str]],
        ending: Callable[[str], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._default, self._closing, self._ending, self._clock = default, closing, ending, clock
        self._jobs: Dict[int, Tuple[str, float]] = {}
        self._failed = False
        self._last = ""
        for own in default.filters:
            self.addFilter(own)

    def emit(self, record: logging.LogRecord) -> None:
        """Write what a person should see of a record, in our words for jobs and in Snakemake's for the rest."""
        try:
            text = self._text(record)
            # Snakemake repeats that it waits for its jobs every few seconds.
            if text and text != self._last:
                self._last = text
                self._default.stream.write(text + "\n")
                self._default.stream.flush()
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)

    def _text(self, record: logging.LogRecord) -> Optional[str]:
        event, given = getattr(record, "event", None), record.__dict__
        if event == "run_info":
            return stages_line(given.get("stats") or {})
        if event == "job_info":
            return self._started(given)
        if event == "job_finished":
            return self._ended(_job_id(given), "done in {}")
        if event == "job_error":
            self._failed = True
            # Snakemake 9.0 logs this event twice.
            return self._ended(_job_id(given), f"{self._ending((given.get('log') or [''])[0])} after {{}}")
        text = record.getMessage()
        if event in _NOISY_EVENTS or text.startswith(_NOISE) or _TOLD.match(text):
            return None
        if text.startswith("Complete log") and not self._failed:
            return None
        shown = self._default.format(record)
        if text.startswith(NOTHING_TO_DO):
            shown = "\n".join([shown, *self._closing()])
        return None if shown in ("", "None") else shown

    def _started(self, given: Dict[str, Any]) -> Optional[str]:
        if not is_stage(given["rule_name"]):
            return None
        label = label_of(given["rule_name"], given.get("wildcards") or {})
        self._jobs[given["jobid"]] = (label, self._clock())
        return self._line(f"{label} ...")

    def _ended(self, job: int, words: str) -> Optional[str]:
        if job not in self._jobs:
            return None
        label, started = self._jobs.pop(job)
        seconds = round(self._clock() - started)
        duration = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return self._line(f"{label}: {words.format(duration)}")

    def _line(self, text: str) -> str:
        return f"[{time.strftime('%H:%M:%S', time.localtime(self._clock()))}] {text}"


def _job_id(given: Dict[str, Any]) -> int:
    """Snakemake names the key differently in its events."""
    return int(given.get("job_id", given.get("jobid", -1)))


def is_stage(rule: str) -> bool:
    """Whether a person wants to hear of this rule; the target and the files written for programs take no time."""
    return rule != "all" and not rule.startswith("write_")


def label_of(rule: str, wildcards: Dict[str, str]) -> str:
    """ "train (seed 0)": the rule and the wildcards that say something."""
    parts = [f"seed {value}" if name == "seed" else value.strip("_") for name, value in wildcards.items() if value]
    return f"{rule} ({', '.join(parts)})" if parts else rule


def stages_line(stats: Dict[str, int]) -> str:
    """ "3 stages: train, evaluate x 2", in the order of Snakemake's table."""
    stages = {rule: count for rule, count in stats.items() if rule != "total" and is_stage(rule)}
    named = ", ".join(rule if count == 1 else f"{rule} x {count}" for rule, count in stages.items())
    total = sum(stages.values())
    return f"{total} stage{'' if total == 1 else 's'} to run: {named}" if stages else ""


class Terminal:
    """Puts the handlers in place.

    Args:
        logger: Snakemake's.
        closing, ending: see `StageLines`.
        plain: leave Snakemake's own lines: a dry run, or details were asked for.
        failed: see `Failures`.
    """

    def __init__(
        self,
        logger: logging.Logger,
        closing: Callable[[], Iterable[str]],
        ending: Callable[[str], str],
        plain: bool,
        failed: Callable[[int, str], None] = lambda job, log: None,
    ) -> None:
        self.failures = Failures(failed)
        self._logger, self._closing, self._ending, self._plain = logger, closing, ending, plain
        logger.addHandler(self.failures)

    def install(self, managers: Iterable[Any]) -> None:
        """Take the place of Snakemake's handler, as soon as there is one; calling it again does no harm.

        Args:
            managers: objects that may hold a queue of handlers, where Snakemake 9.0 has the terminal's.
        """
        if self._plain:
            return
        for handler in list(self._logger.handlers):
            if _is_terminal(handler):
                self._logger.removeHandler(handler)
                self._logger.addHandler(StageLines(handler, self._closing, self._ending))
        for manager in managers:
            queue = getattr(manager, "queue_listener", None)
            if queue is not None:
                queue.handlers = tuple(
                    StageLines(handler, self._closing, self._ending) if _is_terminal(handler) else handler
                    for handler in queue.handlers
                )


def _is_terminal(handler: logging.Handler) -> bool:
    return type(handler).__name__ == "ColorizingTextHandler"
