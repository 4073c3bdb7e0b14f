"""Kill campaign against data workers alone: one of them is killed at a random instant of a large transfer.

    make chaos-workers ARGS="--kills 200"

Three of four kills hit a loader in a process of its own (crops of the published size, no Paddle); the others hit a
training job, in turns of four with one and with two ranks. Each time the process that waits must end in words that name
the worker, within the limit, and leave no process and no file in shared memory. In the end the trainings are started
once more and must make the bytes of an undisturbed one.
"""

from __future__ import annotations

# ruff: noqa: E402
# The path comes first: this is a program too.
import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Counter, Dict, List

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS), str(_TESTS / "reliability")]

from families import Family, shared_memory, wait_until
from trials import TrainingTrial

#: Seconds from a kill to the end of the process that waits for the worker.
LIMIT_S = 30.0

#: A loader whose samples are of the published size; it says so when the first batch is there.
_LOADER = """
import sys, time
sys.path[:0] = [{repository!r}]
import numpy as np
from stdc.training.loader import WorkerDied, batches

class Crops:
    def __getitem__(self, key):
        time.sleep({work_s})
        return np.full((3, 512, 1024), key % 256, np.uint8), np.full((512, 1024), key % 19, np.uint8)

if __name__ == "__main__":
    try:
        keys = ([4 * n + k for k in range(4)] for n in range(100000))
        for number, batch in enumerate(batches(Crops(), keys, {workers})):
            assert (batch.images[:, 0, 0, 0] == [(4 * number + k) % 256 for k in range(4)]).all()
            if number == 0:
                print("ready", flush=True)
    except WorkerDied as error:
        print(error, flush=True)
        sys.exit(1)
"""


def kill_in_loader(folder: Path, draw: random.Random) -> List[str]:
    """Problems of one kill in a loader without a trainer."""
    program = folder / "loader.py"
    text = _LOADER.format(
        repository=str(_TESTS.parent), work_s=draw.choice((0.0, 0.0, 0.003)), workers=draw.choice((1, 2, 3))
    )
    program.write_text(text, encoding="utf-8")
    log = folder / "log"
    log.write_bytes(b"")
    family = Family([sys.executable, str(program)], folder, log)
    try:
        wait_until(lambda: "ready" in family.text() or family.head.poll() is not None, 60, "first batch")
        time.sleep(draw.uniform(0.0, 0.2))
        return _killed(family, draw)
    finally:
        family.end()


def kill_in_training(trial: TrainingTrial, name: str, devices: int, draw: random.Random) -> List[str]:
    """Problems of one kill in a training job."""
    family = trial.start(name, workers=2, devices=devices)
    try:
        wait_until(lambda: family.of_role("data worker") or family.head.poll() is not None, 120, "data workers")
        time.sleep(draw.uniform(0.0, 2.0))
        if family.head.poll() is not None:
            return [] if family.head.poll() == 0 else [f"ended before the kill: {family.text()[-500:]}"]
        return _killed(family, draw)
    finally:
        family.end()


def _killed(family: Family, draw: random.Random) -> List[str]:
    """Kill one worker and judge what follows."""
    workers = family.of_role("data worker")
    if not workers:
        return []
    victim = draw.choice(workers)
    family.kill(victim.pid)
    said = len(family.text())
    try:
        code = family.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        return [f"nothing within {LIMIT_S:.0f} s of the death of worker {victim.pid}: {family.text()[-300:]}"]
    problems = [f"survivor: {member.role}" for member in family.survivors()]
    text = family.text()[said:] or family.text()
    # Killed at the very end, a worker is not missed.
    if code != 0 and f"process {victim.pid} ended by SIGKILL" not in family.text():
        problems.append(f"exit code {code} without the worker's name: {text[-500:]}")
    if code not in (0, 1):
        problems.append(f"exit code {code}: {text[-500:]}")
    return problems


def campaign(kills: int, seed: int, minutes: float, folder: Path) -> Dict[str, Any]:
    """Kill until there are enough or the time is up; what was seen."""
    draw = random.Random(seed)
    before = set(shared_memory())
    trial = TrainingTrial(folder / "trial")
    calm = trial.finish("calm")
    deadline = time.monotonic() + 60 * minutes
    done: Counter[str] = collections.Counter()
    problems: List[str] = []
    names = {1: "one", 2: "two"}
    while sum(done.values()) < kills and time.monotonic() < deadline:
        # Starting Paddle takes most of a training kill's time, so the loader gets three of four.
        kind = ("loader", "loader", "loader", "one" if sum(done.values()) % 8 < 4 else "two")[sum(done.values()) % 4]
        if kind == "loader":
            found = kill_in_loader(folder, draw)
        else:
            devices = 1 if kind == "one" else 2
            found = kill_in_training(trial, names[devices], devices, draw)
        done[kind] += 1
        problems += [f"kill {sum(done.values())} ({kind}): {problem}" for problem in found]
    for devices, name in names.items():
        if done[name] and trial.finish(name, workers=2, devices=devices, limit_s=600) != calm and devices == 1:
            problems.append(f"{name}: not the bytes of an undisturbed training")
    left = sorted(set(shared_memory()) - before)
    problems += [f"left in shared memory: {name}" for name in left if name.startswith(("stdc", "sem.stdc", "sem.mp"))]
    return {"kills": dict(done), "problems": problems}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20261125, help="decides victims and times (default %(default)s)")
    parser.add_argument("--kills", type=int, default=200, help="how many (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="limit for new kills (default %(default)s)")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = campaign(options.kills, options.seed, options.minutes, Path(folder))
    print(
        f"{sum(result['kills'].values())} kills of data workers ({result['kills']}), seed {options.seed}: "
        f"{len(result['problems'])} problems, {time.monotonic() - started:.0f} s"
    )
    print("\n".join(result["problems"]))
    return min(len(result["problems"]), 1)


if __name__ == "__main__":
    sys.exit(main())
