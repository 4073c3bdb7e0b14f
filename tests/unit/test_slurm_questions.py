"""What a run asks SLURM before it hands over jobs; the answers are as squeue and sinfo of SLURM 22.05 print them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Sequence

import pytest

LIB = Path(__file__).resolve().parents[2] / "workflow" / "lib"
sys.path.insert(0, str(LIB))

import slurm  # noqa: E402

sys.path.remove(str(LIB))

PARTITIONS = "main*|2-00:00:00\nshort|1:00:00\nshort|1:00:00\nlong|infinite\n"


def answering(*texts: str) -> slurm.Ask:
    """Gives one text after the other, the last one for ever."""
    left = list(texts)

    def ask(command: Sequence[str]) -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return ask


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("2-00:00:00", 2880), ("1:00:00", 60), ("30:00", 30), ("infinite", None), ("7-12:30:00", 10830), ("n/a", None)],
)
def test_limits_are_read_as_sinfo_prints_them(text: str, minutes: int) -> None:
    assert slurm.minutes_of(text) == minutes


def test_stage_that_asks_for_more_than_its_partition_gives_is_told_with_what_to_do() -> None:
    asked = [
        slurm.Asked("train", "short", 2880),
        slurm.Asked("train", "short", 2880),
        slurm.Asked("report", "short", 30),
    ]
    (line,) = slurm.limit_problems(asked, answering(PARTITIONS))
    assert line.startswith("train: asks for 2880 minutes, and the partition short gives 60 at most")
    assert "--set-resources train:runtime=60" in line and "profiles/slurm/config.yaml" in line


def test_default_partition_and_the_longest_of_several_count() -> None:
    assert slurm.limit_problems([slurm.Asked("train", "", 2880)], answering(PARTITIONS)) == []
    assert (
        "partition main gives 2880" in slurm.limit_problems([slurm.Asked("train", "", 2881)], answering(PARTITIONS))[0]
    )
    assert slurm.limit_problems([slurm.Asked("train", "short,long", 9999)], answering(PARTITIONS)) == []


def test_partition_that_does_not_exist_is_told_with_those_that_do() -> None:
    (line,) = slurm.limit_problems([slurm.Asked("train", "gpus", 60)], answering(PARTITIONS))
    assert line == "slurm_partition: gpus: the cluster has no such partition; it has: long, main, short"


def test_jobs_of_an_earlier_start_are_those_of_the_plug_in_from_this_very_folder(tmp_path: Path) -> None:
    lines = [
        f"25|RUNNING|rule_train_wildcards_0|{tmp_path}",
        f"26|PENDING|rule_check_dataset|{tmp_path}",
        f"27|RUNNING|rule_train_wildcards_0|{tmp_path}/other",
        f"28|RUNNING|(null)|{tmp_path}",
    ]
    found = slurm.earlier_jobs(tmp_path, answering("\n".join(lines)))
    assert found == ["25 (train, seed 0: RUNNING)", "26 (check_dataset: PENDING)"]


def test_run_waits_for_jobs_of_an_earlier_start_and_says_so_when_they_change(tmp_path: Path) -> None:
    pending = f"25|PENDING|rule_train_wildcards_0|{tmp_path}\n"
    running = pending.replace("PENDING", "RUNNING")
    told: List[str] = []
    slept: List[float] = []
    slurm.wait_for_earlier_jobs(tmp_path, told.append, answering(pending, pending, running, ""), slept.append)
    assert slept == [slurm.POLL_S] * 3
    assert [line.partition("; ")[0] for line in told] == [
        "waiting for jobs of an earlier start here: 25 (train, seed 0: PENDING)",
        "waiting for jobs of an earlier start here: 25 (train, seed 0: RUNNING)",
    ]
    assert told[0].endswith("`scancel 25` ends them")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program-of-slurms"], "not found; start this on a login node"),
        (
            ["sh", "-c", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"],
            "Unable to contact",
        ),
        (["false"], "exit code 1"),
    ],
)
def test_controller_that_does_not_answer_is_an_error_in_words(command: List[str], words: str) -> None:
    with pytest.raises(slurm.SlurmError, match=words):
        slurm.ask(command)
