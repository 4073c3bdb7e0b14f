"""Torture campaign: spoiled datasets, documents, weights, checkpoints, archives and recipes; killed workers, bad disks.

Every case must end in success with a correct result, or in exit code 2 with a line that names the culprit. A traceback,
a hang, a wrong pairing, a changed dataset, an output of a failed program, a character that a terminal obeys, more than
500 MB or 20 s of a processor is a failure of ours. Cases are numbered and depend on (seed, number) alone: `--case N`
shows one again.
"""

# ruff: noqa: E402
# The path comes first: this is a program too.
from __future__ import annotations

import argparse
import collections
import os
import pickle
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

_TESTS = Path(__file__).resolve().parents[1]
_REPOSITORY = _TESTS.parent
_SCRIPTS = _REPOSITORY / "workflow" / "scripts"
_TOOLS = _REPOSITORY / "tools"
_LIB = _REPOSITORY / "workflow" / "lib"
sys.path[:0] = [str(_REPOSITORY), str(_TESTS), str(_TESTS / "reliability"), str(_SCRIPTS), str(_LIB)]

import cv2
from cases_of_data import case_archive, case_dataset, case_intermediate
from cases_of_recipes import case_recipe, case_stage, case_syntax
from cases_of_runs import case_checkpoint, case_document, case_rank, case_weights, case_worker
from judging import WrongError
from mutations import Chance, Mutation
from sound_material import Templates

# Made before the cases are forked, so that none of them has to import it.
from stdc import files

#: Seconds that a case may take; starting Snakemake, or a worker, on a busy machine takes some.
LIMIT_S = {"recipe": 120.0, "worker": 120.0}
DEFAULT_LIMIT_S = 60.0
#: Of a processor, and beyond what this program holds itself.
MOST_CPU_S, MOST_BYTES = 20.0, 500 << 20
_HERE = Path(__file__).resolve()


class Result(NamedTuple):
    """How one case ended.

    Args:
        end: success, refused, or failed.
        why: of a failure.
        cpu_s: of all its processes.
        memory: bytes that the largest of them took beyond what this program holds.
    """

    kind: str
    number: int
    end: str
    mutations: List[str]
    why: str
    seconds: float
    cpu_s: float
    memory: int


KINDS: Dict[str, Tuple[Callable[[Templates, Path, Chance], Tuple[str, List[Mutation]]], int]] = {
    # name: (function, share of the cases)
    "dataset": (case_dataset, 8),
    "document": (case_document, 8),
    "intermediate": (case_intermediate, 4),
    "weights": (case_weights, 4),
    "checkpoint": (case_checkpoint, 3),
    "archive": (case_archive, 3),
    "stage": (case_stage, 2),
    "syntax": (case_syntax, 3),
    "recipe": (case_recipe, 1),
    "rank": (case_rank, 1),
    "worker": (case_worker, 1),
}


# ---- the campaign


def run_case(templates: Templates, seed: int, number: int, only: Optional[str], folder: Path) -> Result:
    """One case in a forked child with a time limit."""
    chance = random.Random(f"{seed} {number}")
    wheel = [name for name, (_, share) in KINDS.items() for _ in range(share)]
    kind = only or wheel[number % len(wheel)]
    place = folder / f"case{number}"
    place.mkdir()
    started = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        answer: Any = ("failed", [], "no answer")
        try:
            os.setpgid(0, 0)
            try:
                end, mutations = KINDS[kind][0](templates, place, chance)
                answer = (end, [mutation.what for mutation in mutations], "")
            except WrongError as error:
                answer = ("failed", [], str(error))
            except BaseException:
                answer = ("failed", [], traceback.format_exc())
            with os.fdopen(writer, "wb") as handle:
                handle.write(pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    own = _resident_bytes()
    answer, used = _answer(child, reader, LIMIT_S.get(kind, DEFAULT_LIMIT_S))
    cpu_s, memory = used.ru_utime + used.ru_stime, max(0, used.ru_maxrss * 1024 - own)
    if answer[0] != "failed" and (cpu_s > MOST_CPU_S or memory > MOST_BYTES):
        answer = ("failed", answer[1], f"took {cpu_s:.1f} s of a processor and {memory >> 20} MB: {answer[1]}")
    if answer[0] != "failed":
        shutil.rmtree(place, ignore_errors=True)
    return Result(kind, number, *answer, time.monotonic() - started, round(cpu_s, 2), memory)


def _resident_bytes() -> int:
    """What this process holds and a forked child begins with: files that are mapped do not count."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) * 1024


def _answer(child: int, reader: int, limit_s: float) -> Tuple[Any, Any]:
    """What the child says, and what it used, with its own children."""
    data, deadline = b"", time.monotonic() + limit_s
    with os.fdopen(reader, "rb", buffering=0) as handle:
        while True:
            ready, _, _ = select.select([handle], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                os.killpg(child, signal.SIGKILL)
                return ("failed", [], f"hangs: no end after {limit_s:.0f} s"), os.wait4(child, 0)[2]
            chunk = handle.read(1 << 16)
            if not chunk:
                break
            data += chunk
    _, status, used = os.wait4(child, 0)
    if not data:
        return ("failed", [], f"died with wait status {status}"), used
    # From our own child.
    return pickle.loads(data), used


def campaign(
    seed: int,
    cases: int,
    minutes: float,
    only: Optional[str] = None,
    first: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Dict[str, Any]:
    """Run cases until there are enough of them or time is up; the result as JSON values."""
    cv2.setNumThreads(1)
    started = time.monotonic()
    results: List[Result] = []
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        templates = Templates(Path(folder, "templates"))
        if only in (None, "document"):
            templates.make_documents()
        for number in range(first, first + cases):
            if time.monotonic() - started > 60 * minutes:
                say(f"time is up after {len(results)} cases")
                break
            result = run_case(templates, seed, number, only, Path(folder))
            results.append(result)
            if result.end == "failed":
                # As a replay would see it: the mutations are told by a second, identical run of the generator.
                say(f"case {number} ({result.kind}): {result.why}")
            elif len(results) % 50 == 0:
                say(f"{len(results)} cases, {sum(one.end == 'failed' for one in results)} failed")
    return {
        "seed": seed,
        "cases": len(results),
        "success": sum(result.end == "success" for result in results),
        "refused": sum(result.end == "refused" for result in results),
        "failed": sum(result.end == "failed" for result in results),
        "seconds": round(time.monotonic() - started, 1),
        "kinds": {
            kind: dict(collections.Counter(result.end for result in results if result.kind == kind)) for kind in KINDS
        },
        "slowest_s": round(max((result.seconds for result in results), default=0.0), 2),
        "most_cpu_s": round(max((result.cpu_s for result in results), default=0.0), 2),
        "most_memory_mb": max((result.memory for result in results), default=0) >> 20,
        "mutations": dict(collections.Counter(what.split(" ")[0] for result in results for what in result.mutations)),
        "failures": [result._asdict() for result in results if result.end == "failed"],
        "properties": {},
    }


def _counting(check: Callable[[Any], None], tried: List[int]) -> Callable[[Any], None]:
    def counted(value: Any) -> None:
        tried.append(1)
        check(value)

    return counted


def made_up_values(seed: int, examples: int) -> Tuple[Dict[str, int], List[str]]:
    """Properties of the readers over values that hypothesis makes up: how many each, and what did not hold."""
    import hypothesis
    import properties

    counts: Dict[str, int] = {}
    failures = []
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for check, strategy in properties.PROPERTIES:
        tried: List[int] = []
        try:
            settings(hypothesis.seed(seed)(hypothesis.given(strategy)(_counting(check, tried))))()
        except Exception:
            failures.append(f"{check.__name__}: {traceback.format_exc()[-3000:]}")
        counts[check.__name__] = len(tried)
    return counts, failures


def table(result: Dict[str, Any]) -> str:
    """The result for a person."""
    lines = [f"{'kind':<14}{'cases':>7}{'success':>9}{'refused':>9}{'failed':>8}"]
    for kind, ends in result["kinds"].items():
        counts = [ends.get(end, 0) for end in ("success", "refused", "failed")]
        if sum(counts):
            lines.append(f"{kind:<14}{sum(counts):>7}{counts[0]:>9}{counts[1]:>9}{counts[2]:>8}")
    total = [result[end] for end in ("cases", "success", "refused", "failed")]
    lines.append(f"{'all':<14}{total[0]:>7}{total[1]:>9}{total[2]:>9}{total[3]:>8}")
    lines += [f"{name}: {count} values" for name, count in result["properties"].items()]
    lines.append(
        f"seed {result['seed']}, {result['seconds']:.0f} s, slowest case {result['slowest_s']:.1f} s, at most "
        f"{result['most_cpu_s']:.1f} s of a processor and {result['most_memory_mb']} MB of memory for a case"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20260901, help="decides every case (default %(default)s)")
    parser.add_argument("--cases", type=int, default=600, help="how many (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit of the campaign (default %(default)s)")
    parser.add_argument(
        "--examples", type=int, default=500, help="made-up values for each property of a reader (default %(default)s)"
    )
    parser.add_argument("--only", choices=sorted(KINDS), help="this kind of cases alone")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    options = parser.parse_args()
    first, cases = (0, options.cases) if options.case is None else (options.case, 1)
    result = campaign(
        options.seed, cases, options.minutes, options.only, first, lambda line: print(line, file=sys.stderr, flush=True)
    )
    if options.examples and options.only is None and options.case is None:
        result["properties"], failures = made_up_values(options.seed, options.examples)
        result["failed"] += len(failures)
        result["failures"] += failures
        print("\n".join(failures), file=sys.stderr)
    if options.json:
        files.write_json(options.json, result)
    print(table(result))
    return int(result["failed"] > 0 or result["cases"] == 0)


if __name__ == "__main__":
    sys.exit(main())
