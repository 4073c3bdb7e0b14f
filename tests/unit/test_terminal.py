"""What a person sees of a run: lines for stages, failed jobs in a line each, exit codes."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

LIB = Path(__file__).resolve().parents[2] / "workflow" / "lib"
sys.path.insert(0, str(LIB))

import session  # noqa: E402
import terminal  # noqa: E402

sys.path.remove(str(LIB))


class ColorizingTextHandler(logging.StreamHandler):
    """Stands in for Snakemake's handler of the terminal, which is known by this name."""


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("snakemake")
    made.addHandler(ColorizingTextHandler(io.StringIO()))
    yield made


def say(logger: logging.Logger, message: Any, level: int = logging.INFO, **extra: Any) -> None:
    logger.log(level, message, extra=extra)


def stage(logger: logging.Logger, job: int, rule: str, **wildcards: str) -> None:
    extra = {"event": "job_info", "jobid": job, "rule_name": rule, "wildcards": wildcards}
    say(logger, f" Rule: {rule}", **extra)


def failed(logger: logging.Logger, job: int, rule: str, *logs: str, message: Any = None) -> None:
    extra = {"event": "job_error", "jobid": job, "rule_name": rule, "log": list(logs), "rule_msg": message}
    say(logger, f"Error in rule {rule}", logging.ERROR, **extra)


def use(logger: logging.Logger, closing: List[str], ending: str = "failed", plain: bool = False) -> terminal.Terminal:
    made = terminal.Terminal(logger, lambda: closing, lambda log: ending, plain)
    made.install([])
    made.install([None])
    return made


def shown(stream: io.StringIO) -> List[str]:
    """Lines without their times."""
    return [line.split("] ", 1)[-1] for line in stream.getvalue().splitlines()]


def test_a_line_that_is_repeated_is_shown_once(logger: logging.Logger) -> None:
    stream = logger.handlers[0].stream  # type: ignore[attr-defined]
    use(logger, [])
    for words in ("Will exit after finishing", "Will exit after finishing", "other", "Will exit after finishing"):
        say(logger, words)
    assert shown(stream) == ["Will exit after finishing", "other", "Will exit after finishing"]


def test_a_stage_is_two_lines_and_noise_is_none(logger: logging.Logger) -> None:
    stream = logger.handlers[0].stream  # type: ignore[attr-defined]
    use(logger, ["COMPARABLE"])
    say(logger, "Building DAG of jobs...")
    say(
        logger,
        "table",
        event="run_info",
        stats={"write_train_config": 3, "train": 1, "evaluate": 2, "all": 1, "total": 7},
    )
    stage(logger, 7, "write_train_config")
    say(logger, "", event="job_finished", job_id=7)
    stage(logger, 3, "evaluate", seed="1", weights="_best")
    say(logger, "Provided cores: 2", event="resources_info")
    say(logger, "", event="job_finished", job_id=3)
    say(logger, "1 of 7 steps", event="progress", done=1, total=7)
    say(logger, "Something that nobody foresaw")
    say(logger, "Complete log(s): x")
    assert shown(stream) == [
        "3 stages to run: train, evaluate x 2",
        "evaluate (seed 1, best) ...",
        "evaluate (seed 1, best): done in 0:00:00",
        "Something that nobody foresaw",
    ]


def test_a_run_with_nothing_to_do_ends_in_the_verdict(logger: logging.Logger) -> None:
    stream = logger.handlers[0].stream  # type: ignore[attr-defined]
    use(logger, ["COMPARABLE", "report: page"])
    say(logger, "Nothing to be done (all requested files are present and up to date).")
    assert shown(stream)[1:] == ["COMPARABLE", "report: page"]


def test_details_stay_where_they_are_asked_for(logger: logging.Logger) -> None:
    stream = logger.handlers[0].stream  # type: ignore[attr-defined]
    use(logger, [], plain=True)
    say(logger, "Building DAG of jobs...")
    assert shown(stream) == ["Building DAG of jobs..."]


def test_a_failure_is_a_line_and_what_repeats_it_is_none(logger: logging.Logger) -> None:
    stream = logger.handlers[0].stream  # type: ignore[attr-defined]
    use(logger, [], ending="stopped")
    stage(logger, 3, "train", seed="0")
    say(logger, "RuleException:\nCalledProcessError in file x", logging.ERROR, event="error", exception="RuleException")
    for _ in range(2):
        failed(logger, 3, "train", "logs/train/a.log")
    say(logger, "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR, event="error")
    say(logger, "WorkflowError:\nMissing output files", logging.ERROR, event="error")
    say(logger, "Complete log(s): x")
    assert shown(stream) == [
        "train (seed 0) ...",
        "train (seed 0): stopped after 0:00:00",
        "WorkflowError:",
        "Missing output files",
        "Complete log(s): x",
    ]


def test_failed_jobs_are_known_however_quiet_the_terminal_is(logger: logging.Logger) -> None:
    logger.handlers[0].addFilter(lambda record: False)
    found = use(logger, []).failures
    stage(logger, 3, "train", seed="0")
    stage(logger, 4, "evaluate", seed="0")
    say(
        logger,
        "RuleException:\nCalledProcessError in file x:\nCommand 'python --log logs/train/a.log' "
        "died with <Signals.SIGKILL: 9>.",
        logging.ERROR,
        event="error",
    )
    failed(logger, 3, "train", "logs/train/a.log", "slurm.log")
    failed(logger, 4, "evaluate", "logs/evaluate/a.log", message="sbatch: no such partition")
    assert found.jobs() == [
        terminal.FailedJob("train", "train (seed 0)", "logs/train/a.log", "", "SIGKILL"),
        terminal.FailedJob("evaluate", "evaluate (seed 0)", "logs/evaluate/a.log", "sbatch: no such partition"),
    ]
    # Its next attempt succeeds.
    say(logger, "", event="job_finished", job_id=3)
    assert [job.rule for job in found.jobs()] == ["evaluate"]


def job(log: str, message: str = "", signal: str = "") -> terminal.FailedJob:
    return terminal.FailedJob("train", "train (seed 0)", log, message, signal)


def leave(folder: Path, name: str, code: int, message: str) -> str:
    log = folder / "logs" / "train" / name
    log.parent.mkdir(parents=True, exist_ok=True)
    content = {"program": "train", "exit_code": code, "message": message}
    Path(f"{log}.error.json").write_text(json.dumps(content), encoding="utf-8")
    return str(log)


def test_what_failed_is_a_line_with_the_first_of_its_message(tmp_path: Path) -> None:
    log = leave(tmp_path, "a.log", 2, "data: problems found: 2\n  one\n  two")
    left = session.errors(tmp_path / "logs")
    here = f"train (seed 0) failed: data: problems found: 2; told above and in {log}"
    assert session.explain([job(log)], left, here=True) == [here]
    elsewhere = [f"train (seed 0) failed: data: problems found: 2; see {log}", "  one", "  two"]
    assert session.explain([job(log)], left, here=False) == elsewhere
    assert session.ending(log) == "failed"


def test_a_stop_is_no_failure(tmp_path: Path) -> None:
    log = leave(tmp_path, "a.log", 75, "stopped on request at iteration 7")
    left = session.errors(tmp_path / "logs")
    assert session.explain([job(log)], left, here=True) == ["train (seed 0): stopped on request at iteration 7"]
    # Snakemake calls no job failed where it was interrupted itself.
    assert session.explain([], left, here=True) == ["train: stopped on request at iteration 7"]
    assert session.ending(log) == "stopped"


def test_a_program_that_died_without_a_word_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n\ntwo\n", encoding="utf-8")
    lines = session.explain([job(str(log), "sbatch: refused\nFor further error details see", "SIGKILL")], {}, here=True)
    assert lines == [
        f"train (seed 0) was killed by SIGKILL, which is often for want of memory; see {log}",
        "  give it more (docker run --memory, limits.memory of a pod, mem_mb on a cluster), or lower hardware.workers "
        "or hardware.micro_batch; the same command goes on from the last checkpoint",
        "  sbatch: refused",
        "  one",
        "  two",
    ]


@pytest.mark.parametrize(
    ("codes", "expected"), [([2], 2), ([2, 2], 2), ([75], 75), ([2, 75], 1), ([1], 1), ([2, None], 1), ([], 1)]
)
def test_the_exit_code_is_that_of_all_programs_that_failed(tmp_path: Path, codes: List[Any], expected: int) -> None:
    jobs = [job(str(tmp_path / "logs" / "train" / f"{number}.log")) for number, _ in enumerate(codes)]
    for number, code in enumerate(codes):
        if code is not None:
            leave(tmp_path, f"{number}.log", code, "")
    assert session.exit_code(jobs, session.errors(tmp_path / "logs")) == expected


def test_errors_of_earlier_runs_are_forgotten(tmp_path: Path) -> None:
    leave(tmp_path, "a.log", 2, "old")
    leave(tmp_path, "b.log", 2, "old")
    (tmp_path / "logs" / "train" / "b.log.error.json").write_text("{half", encoding="utf-8")
    assert list(session.errors(tmp_path / "logs")) == [str(tmp_path / "logs" / "train" / "a.log")]
    session.forget_errors(tmp_path / "logs")
    assert list((tmp_path / "logs" / "train").iterdir()) == []


def test_the_verdict_of_a_finished_run_is_repeated(tmp_path: Path) -> None:
    assert session.closing_lines(tmp_path) == []
    verdict = {"verdict": "COMPARABLE", "summary": "val mIoU 74.7 %"}
    (tmp_path / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    assert session.closing_lines(tmp_path) == ["COMPARABLE: val mIoU 74.7 %", f"report: {tmp_path / 'report.html'}"]


def test_files_that_do_not_hold_what_they_should_are_found(tmp_path: Path) -> None:
    for name, text in (("same", "a\n"), ("other", "b\n"), ("cut", "")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    texts = {str(tmp_path / name): "a" for name in ("same", "other", "cut", "missing")}
    assert session.stale_files(texts) == [tmp_path / "other", tmp_path / "cut"]
