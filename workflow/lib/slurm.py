"""What a run on SLURM has to know before it hands over jobs, and Snakemake does not ask.

Plain Python beside Snakemake; nothing here is used by the programs.
"""

from __future__ import annotations

import getpass
import re
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

#: Longest wait for an answer of the controller, seconds.
ANSWER_LIMIT_S = 60
#: Between two looks at a queue, which a controller bears well.
POLL_S = 15.0
_MINUTES_PER_DAY = 24 * 60

Ask = Callable[[Sequence[str]], str]


class SlurmError(Exception):
    """SLURM gave no answer; the text says why."""


class Asked(NamedTuple):
    """What the job of a stage asks for.

    Attributes:
        stage: the rule.
        partition: name, or several with commas; empty for the cluster's default.
        minutes: its time limit.
    """

    stage: str
    partition: str
    minutes: int


def ask(command: Sequence[str]) -> str:
    """What a command of SLURM's prints.

    Raises:
        SlurmError: it is not there, failed, or did not answer in time.
    """
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=ANSWER_LIMIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found; start this on a login node of the cluster") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {ANSWER_LIMIT_S} s; is the controller up?") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise SlurmError(f"{command[0]}: {words[0] if words else f'exit code {done.returncode}'}")
    return done.stdout


def earlier_jobs(folder: Path, ask: Ask = ask) -> List[str]:
    """Living jobs of the user's that were submitted from `folder`: "25 (train, seed 0: RUNNING)".

    The Snakemake that submitted them has been killed, since it held the folder's lock as long as it lived.
    """
    # The folder comes last, because it may hold any character.
    text = ask(["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%k|%Z"])
    found = []
    for line in text.splitlines():
        number, state, comment, where = [*line.split("|", 3), "", "", ""][:4]
        # As the plug-in writes it: rule_train_wildcards_0.
        named = re.match(r"rule_(\w+?)(?:_wildcards_(.*))?$", comment)
        if named and where == str(folder):
            seed = f", seed {named[2]}" if named[2] and named[2].isdigit() else ""
            found.append(f"{number} ({named[1]}{seed}: {state})")
    return found


def wait_for_earlier_jobs(
    folder: Path, log: Callable[[str], None], ask: Ask = ask, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait until no job of an earlier start works in `folder`; the queue's limits end them, or the user.

    Without this, a second job would be submitted for the same stage, and hold a whole allocation while it waits for
    the first one.

    Args:
        log: receives a line when the waiting begins and whenever a job has changed.
    """
    told: List[str] = []
    while True:
        jobs = earlier_jobs(folder, ask)
        if jobs and jobs != told:
            numbers = " ".join(job.split()[0] for job in jobs)
            log(f"waiting for jobs of an earlier start here: {', '.join(jobs)}; `scancel {numbers}` ends them")
        if not jobs:
            return
        told = jobs
        sleep(POLL_S)


def limit_problems(asked: Sequence[Asked], ask: Ask = ask) -> List[str]:
    """One line for each stage that asks for more time than its partition gives: its job would wait for ever."""
    limits: Dict[str, Optional[int]] = {}
    default = ""
    for line in ask(["sinfo", "--noheader", "--format=%P|%l"]).splitlines():
        name, _, limit = line.strip().rpartition("|")
        if name.endswith("*"):
            name = default = name[:-1]
        limits[name] = minutes_of(limit)
    found = []
    for stage, partition, minutes in sorted(set(asked)):
        names = [name for name in (partition or default).split(",") if name]
        unknown = [name for name in names if name not in limits]
        if unknown:
            found.append(
                f"slurm_partition: {unknown[0]}: the cluster has no such partition; it has: {', '.join(sorted(limits))}"
            )
            continue
        given = [limits[name] for name in names]
        longest = None if None in given else max((limit for limit in given if limit is not None), default=None)
        if longest is not None and minutes > longest:
            found.append(
                f"{stage}: asks for {minutes} minutes, and the partition {partition or default} gives {longest} at "
                "most, so its job would wait for ever; lower it in profiles/slurm/config.yaml, or for once by "
                f"--set-resources {stage}:runtime={longest} (a training that meets its limit saves and goes on), or "
                "name another partition"
            )
    return list(dict.fromkeys(found))


def minutes_of(text: str) -> Optional[int]:
    """Minutes of a limit as sinfo prints it, such as "2-00:00:00" or "30:00"; None for no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
    return days * _MINUTES_PER_DAY + hours * 60 + minutes
