"""Kill campaign: the whole workflow is killed at random instants and started again with the same command.

A trial starts plain `snakemake` in an empty folder, lets something be killed after a random time, starts it again,
and so on; nothing is deleted or unlocked in between. In the end every result must be what an undisturbed run made, byte
for byte where no clock is in it. After each kill no process may live for more than five seconds.
"""

from __future__ import annotations

# ruff: noqa: E402
# The path comes first: this is a program too.
import argparse
import collections
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

_TESTS = Path(__file__).resolve().parents[1]
_REPOSITORY = _TESTS.parent
sys.path[:0] = [str(_REPOSITORY), str(_TESTS), str(_TESTS / "reliability")]

from families import GRACE_S, Family
from trials import history

from stdc import files

#: Of one start of Snakemake, on a busy machine.
LIMIT_S = 600.0

RECIPE = """\
# Written by the kill campaign: the whole chain in half a minute.
name: chaos
seeds: {seeds}
hardware: {{device: cpu, devices: {devices}, threads: 1, workers: 1}}
synthetic: {{seed: 3, height: 64, width: 128, train: 6, val: 2, test: 2}}
train:
  preset: paddleseg
  iterations: {iterations}
  global_batch: 2
  crop_height: 64
  crop_width: 64
  save_interval: 3
  keep_checkpoint_max: 2
  eval_interval: {eval_interval}
  log_interval: 3
  prediction_images: 1
speed: {{height: 64, width: 128, batch: 1, warmup: 1, iterations: 2}}
report: {{overlays: 1}}
"""

#: What is killed, how often in relation to each other, and by which signal.
KILLS: Dict[str, Tuple[int, int]] = {
    "snakemake": (3, signal.SIGKILL),
    "process group": (3, signal.SIGKILL),
    "a program": (2, signal.SIGKILL),
    "any descendant": (2, signal.SIGKILL),
    "group, as by Ctrl-C": (1, signal.SIGINT),
    "group, as by a scheduler": (1, signal.SIGTERM),
}

#: Not a secret of anyone's: must appear in no file.
CANARY = "hunter2-canary-of-the-kill-campaign"


class Kill(NamedTuple):
    """One kill and what followed.

    Args:
        after_s: since Snakemake was started.
        during: programs that ran.
        victim: role of the process that was hit.
        gone_s: seconds until no process was left.
        survivors: roles of those that lived too long.
    """

    trial: int
    kind: str
    after_s: float
    during: List[str]
    victim: str
    exit_code: int
    gone_s: float
    survivors: List[str]


class Workshop:
    """Starts the workflow in folders of its own.

    Args:
        folder: for everything.
        seeds: of the recipe.
        devices: ranks of training and evaluation.
        iterations: of each training; it evaluates three times.
    """

    def __init__(self, folder: Path, seeds: List[int], devices: int, iterations: int) -> None:
        self.folder = folder
        # A copy: an edit of the code during the campaign is another matter.
        self.code = folder / "code"
        for name in ("stdc", "workflow", "config", "profiles"):
            shutil.copytree(_REPOSITORY / name, self.code / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(_REPOSITORY / "Snakefile", self.code)
        self.recipe = folder / "chaos.yaml"
        recipe = RECIPE.format(seeds=seeds, devices=devices, iterations=iterations, eval_interval=iterations // 3)
        self.recipe.write_text(recipe, encoding="utf-8")

    def start(self, place: Path) -> Family:
        """The one command; always the same."""
        place.mkdir(exist_ok=True)
        python = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(_REPOSITORY / ".venv" / "workflow" / "bin" / "python")
        command = [python, "-m", "snakemake", "--snakefile", self.code / "Snakefile", "--cores", "2"]
        command += ["--configfile", self.recipe]
        environment = {"STDC_PYTHON": sys.executable, "AWS_SECRET_ACCESS_KEY": CANARY, "OMP_NUM_THREADS": "1"}
        return Family(list(map(str, command)), place, self.folder / f"{place.name}.log", environment)

    def finish(self, place: Path) -> float:
        """Run to the end; seconds."""
        started = time.monotonic()
        family = self.start(place)
        try:
            code = family.wait(LIMIT_S)
            if code != 0:
                raise AssertionError(f"exit code {code}\n{family.text()[-5000:]}")
        finally:
            family.end()
        return time.monotonic() - started


def findings(place: Path) -> Dict[str, Any]:
    """What a finished run made, without what depends on the clock: digests by path, and contents of some files."""
    found: Dict[str, Any] = {}
    for top in ("results", "resources"):
        for path in sorted((place / top).rglob("*")):
            name = str(path.relative_to(place))
            if not path.is_file():
                continue
            if path.name.startswith(".tmp-"):
                found["leftovers"] = [*found.get("leftovers", []), name]
            elif path.name == "history.jsonl":
                found[name] = history(path)
            elif path.name in _TIMED or path.parent.name == "vdl":
                # Speeds, times and what quotes them: there, and that is all.
                found[name.rsplit("/", 1)[0] + "/vdl" if path.parent.name == "vdl" else name] = "timed"
            elif path.name == "manifest.json" or path.suffix != ".json":
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


_TIMED = {
    "provenance.json",
    "speed.json",
    "report.html",
    "report_metrics_only.html",
    ".snakemake_timestamp",
    # Digests of the files above, among others.
    "finished.json",
}


def secrets_kept(place: Path) -> List[str]:
    """Files that hold the canary."""
    wanted = CANARY.encode()
    return [str(path) for path in place.rglob("*") if path.is_file() and wanted in path.read_bytes()]


def strike(family: Family, kind: str, chance: random.Random, trial: int, started: float) -> Optional[Kill]:
    """Kill something of a running family and wait for the end of all; None where it had ended by itself."""
    members = family.members()
    if family.head.poll() is not None or not members:
        return None
    others = [member for member in members if member.pid != family.head.pid]
    programs = [member for member in others if member.role not in ("other", "resource tracker", "data worker")]
    candidates = {"a program": programs, "any descendant": others}.get(kind, [])
    if kind in ("a program", "any descendant") and not candidates:
        kind = "snakemake"
    number = KILLS[kind][1]
    after_s = time.monotonic() - started
    if kind in ("a program", "any descendant"):
        victim = chance.choice(candidates)
        family.kill(victim.pid, number)
        role = victim.role
    elif kind == "snakemake":
        family.kill(family.head.pid, number)
        role = "snakemake"
    else:
        family.kill_group(number)
        role = "group"
    code = family.wait(LIMIT_S)
    ended = time.monotonic()
    left = family.survivors(GRACE_S)
    during = sorted({member.role for member in programs})
    return Kill(
        trial,
        f"{kind}, {signal.Signals(number).name}",
        round(after_s, 2),
        during,
        role,
        code,
        round(time.monotonic() - ended, 2),
        [member.role for member in left],
    )


def differences(found: Dict[str, Any], expected: Dict[str, Any]) -> List[str]:
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def campaign(
    seed: int,
    kills: int,
    minutes: float,
    devices: int = 1,
    seeds: Tuple[int, ...] = (0, 1),
    kinds: Optional[List[str]] = None,
    iterations: int = 48,
    say: Callable[[str], None] = lambda line: None,
) -> Dict[str, Any]:
    """Kill until there were enough kills or time is up; the result as JSON values.

    Args:
        kinds: keys of KILLS, in this order and over again; None: at random.
        iterations: of each training.
    """
    begun = time.monotonic()
    chance = random.Random(f"{seed} {devices}")
    wheel = [kind for kind, (share, _) in KILLS.items() for _ in range(share)]
    done: List[Kill] = []
    problems: List[str] = []
    lost: List[float] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        workshop = Workshop(Path(folder), list(seeds), devices, iterations)
        calm = Path(folder, "undisturbed")
        calm_s = workshop.finish(calm)
        expected = findings(calm)
        say(f"undisturbed: {calm_s:.0f} s, {len(expected)} results")
        problems += [f"secret in {path}" for path in secrets_kept(calm)]
        trial = 0
        while len(done) < kills and time.monotonic() - begun < 60 * minutes:
            trial += 1
            place = Path(folder, f"trial{trial}")
            spent, struck = 0.0, 0
            while True:
                started = time.monotonic()
                family = workshop.start(place)
                try:
                    kill = None
                    # The time to go shrinks with each start; a kill that comes too late ends the trial.
                    if len(done) < kills and time.monotonic() - begun < 60 * minutes:
                        delay = chance.uniform(0.3, 0.6 * calm_s)
                        kind = kinds[len(done) % len(kinds)] if kinds else chance.choice(wheel)
                        try:
                            family.wait(delay)
                        except subprocess.TimeoutExpired:
                            kill = strike(family, kind, chance, trial, started)
                    code = family.wait(LIMIT_S)
                finally:
                    family.end()
                spent += time.monotonic() - started
                if kill is None:
                    break
                done.append(kill)
                struck += 1
                running = ", ".join(kill.during) or "no program"
                say(f"kill {len(done)}: {kill.kind}, at {kill.after_s:.1f} s, during {running}")
                if kill.survivors:
                    problems.append(f"kill {len(done)}: alive after {GRACE_S:.0f} s: {kill.survivors}")
            if code != 0:
                problems.append(f"trial {trial}: the last start ended with {code}\n{family.text()[-4000:]}")
            else:
                different = differences(findings(place), expected)
                problems += [f"trial {trial}: {name} differs from the undisturbed run's" for name in different]
            problems += [f"secret in {path}" for path in secrets_kept(place)]
            problems += [f"trial {trial}: left in shared memory: {name}" for name in _shared_memory_of(place)]
            if struck:
                lost += [(spent - calm_s) / struck] * struck
            say(f"trial {trial}: {struck} kills, {spent:.0f} s")
            shutil.rmtree(place, ignore_errors=True)
    return {
        "seed": seed,
        "devices": devices,
        "seeds": list(seeds),
        "iterations": iterations,
        "kills": len(done),
        "trials": trial,
        "undisturbed_s": round(calm_s, 1),
        "seconds_lost_per_kill": round(statistics.fmean(lost), 1) if lost else None,
        "survivors": sum(len(kill.survivors) for kill in done),
        "slowest_end_s": max((kill.gone_s for kill in done), default=0.0),
        "results_compared": len(expected),
        "problems": problems,
        "seconds": round(time.monotonic() - begun, 1),
        "instants": [kill._asdict() for kill in done],
    }


def _shared_memory_of(place: Path) -> List[str]:
    """What bears the name of a run of a finished trial."""
    runs = [path.name for path in (place / "runs").glob("*")] if (place / "runs").is_dir() else []
    return [path.name for path in Path("/dev/shm").glob("*stdc-*") if any(run in path.name for run in runs)]


def table(result: Dict[str, Any]) -> str:
    """The result for a person."""
    lines = [f"{'what was killed':<44}{'kills':>6}"]
    counts = collections.Counter(kill["kind"] for kill in result["instants"])
    lines += [f"{kind:<44}{count:>6}" for kind, count in sorted(counts.items())]
    during = collections.Counter(name for kill in result["instants"] for name in kill["during"] or ["between jobs"])
    lines += ["", f"{'while this ran':<44}{'kills':>6}"]
    lines += [f"{name:<44}{count:>6}" for name, count in sorted(during.items())]
    lines += [
        "",
        f"{result['kills']} kills in {result['trials']} trials, {result['devices']} rank(s), seed {result['seed']}: "
        f"{len(result['problems'])} problems, {result['survivors']} survivors, last process gone after at most "
        f"{result['slowest_end_s']} s, {result['seconds_lost_per_kill']} s lost per kill "
        f"(undisturbed run {result['undisturbed_s']} s), {result['seconds']:.0f} s in all",
    ]
    return "\n".join([*lines, *result["problems"]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20260901, help="decides victims and times (default %(default)s)")
    parser.add_argument("--kills", type=int, default=48, help="how many, shared by 1 and 2 ranks (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="limit for new kills (default %(default)s)")
    parser.add_argument("--devices", type=int, choices=(1, 2), help="ranks; left out: half of the kills with each")
    parser.add_argument("--iterations", type=int, default=48, help="of each training (default %(default)s)")
    parser.add_argument("--seeds", type=int, choices=(1, 2), default=2, help="trainings of a run of one rank")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args()
    shares = [options.devices] if options.devices else [1, 2]
    results = []
    for devices in shares:
        results.append(
            campaign(
                options.seed,
                -(-options.kills // len(shares)),
                options.minutes / len(shares),
                devices,
                tuple(range(options.seeds)) if devices == 1 else (0,),
                iterations=options.iterations,
                say=lambda line: print(line, file=sys.stderr, flush=True),
            )
        )
        print(table(results[-1]), flush=True)
    if options.json:
        files.write_json(options.json, results)
    return int(any(result["problems"] or not result["kills"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
