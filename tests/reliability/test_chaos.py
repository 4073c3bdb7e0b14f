"""The kill campaign in short: the whole workflow killed at random instants, and what Snakemake itself lets through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import chaos
import pytest
from families import Family, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE_PYTHON = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(REPOSITORY / ".venv" / "workflow" / "bin" / "python")
PROGRAMS = REPOSITORY / "workflow" / "scripts"

pytestmark = [pytest.mark.workflow, pytest.mark.campaign]


def test_workflow_killed_at_random_instants_ends_as_if_nothing_had_happened() -> None:
    kinds = ["process group", "snakemake", "any descendant"]
    result = chaos.campaign(
        seed=int(os.environ.get("STDC_KILL_SEED", "4")), kills=3, minutes=5, seeds=(0,), kinds=kinds
    )
    assert result["problems"] == [], json.dumps(result, indent=1)[:6000]
    assert result["kills"] >= 1 and result["survivors"] == 0 and result["results_compared"] > 20


def test_recipe_that_makes_objects_or_runs_code_is_refused(tmp_path: Path) -> None:
    tiny = (REPOSITORY / "tests" / "workflow" / "tiny.yaml").read_text(encoding="utf-8")
    tag = f'!!python/object/apply:os.system ["touch {tmp_path}/ran"]'
    source = f"{{source: 'https://me:hunter2@example.invalid/w', sha256: {'0' * 64!r}}}"
    cases = {
        "tag": (f"{tiny}\ndataset: {tag}\n", "is not plain YAML"),
        # Snakemake evaluates such a file; the run is refused all the same.
        "template": (f"__use_yte__: true\n{tiny}", "__use_yte__: this is a template"),
        "password": (f"{tiny}\nmodel: {{pretrained: {source}}}\n", "carries a name, a password, a query or a fragment"),
    }
    for name, (text, said) in cases.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        command = [SNAKEMAKE_PYTHON, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--dry-run"]
        command += ["--configfile", str(path)]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert result.returncode != 0 and said in result.stdout + result.stderr, f"{name}: {result.stderr[-2000:]}"
        assert "hunter2" not in result.stdout + result.stderr
        others = [file for file in tmp_path.rglob("*") if file.is_file() and file != path]
        assert not [file for file in others if b"hunter2" in file.read_bytes()]
    assert not (tmp_path / "ran").exists()


#: A head that starts a program from a thread, as Snakemake does, and lets the thread end or the head be killed.
HEAD = """
import os, subprocess, sys, threading, time
os.environ["STDC_DIE_WITH_PARENT"] = str(os.getpid())
started = []
def start():
    started.append(subprocess.Popen([sys.executable, *sys.argv[2:]]))
    if sys.argv[1] == "thread lives":
        time.sleep(60)
thread = threading.Thread(target=start, daemon=True)
thread.start()
time.sleep(60)
"""

SLEEPER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {scripts!r})
import program
def main(options):
    Path(options.sign).touch()
    time.sleep(options.seconds)
parser = program.parser("sleep", "")
parser.add_argument("--seconds", type=float)
parser.add_argument("--sign")
sys.exit(program.run(parser, main))
"""


def sleeping_program(folder: Path) -> Path:
    path = folder / "sleeper.py"
    path.write_text(SLEEPER.format(scripts=str(PROGRAMS)))
    return path


def test_a_program_lives_while_the_starting_thread_lives_and_dies_with_the_head(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    program = [str(sleeping_program(tmp_path)), "--seconds", "40", "--sign", str(sign)]
    family = Family([sys.executable, "-c", HEAD, "thread lives", *program], tmp_path, tmp_path / "log")
    try:
        wait_until(sign.exists, 30, "the program is up")
        time.sleep(1.0)
        assert len(family.members()) == 2
        family.kill(family.head.pid)
        family.wait(10)
        assert family.survivors() == []
    finally:
        family.end()


SNAKEFILE = """
import os
os.environ["STDC_DIE_WITH_PARENT"] = str(os.getpid())
rule all:
    input: "short0", "short1", "short2", "long"
rule short:
    output: "short{{number}}"
    shell: "exec {python} {sleeper} --seconds 0.1 --sign {{output}}"
rule long:
    output: "long"
    shell: "exec {python} {sleeper} --seconds 4 --sign {{output}}"
"""


def test_snakemakes_threads_live_as_long_as_their_jobs(tmp_path: Path) -> None:
    # The kernel counts the thread that forked as the parent: one that ended early would take its healthy job along.
    sleeper = sleeping_program(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(python=sys.executable, sleeper=sleeper))
    result = subprocess.run(
        [SNAKEMAKE_PYTHON, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--nolock"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "long").exists()


def test_program_whose_snakemake_is_gone_before_it_starts_does_nothing(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(30)
    output = tmp_path / "manifest.json"
    result = subprocess.run(
        [sys.executable, str(PROGRAMS / "check_dataset.py"), "--dataset", str(tmp_path), "--output", str(output)],
        env={**os.environ, "STDC_DIE_WITH_PARENT": str(gone.pid)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1 and result.stderr == "" and not output.exists()
