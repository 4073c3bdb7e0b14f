"""Many experiments in one run: what a sweep's file may say, and the DAG that comes of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest
from snakemake_runs import REPOSITORY, TINY, Workflow

pytestmark = pytest.mark.workflow

SWEEP = """
name: study
seeds: [0, 1]
overrides:
  base: {}
  fast: {train: {base_lr: 0.02}}
  few: {data: {subset: {train: 2}}}
"""
#: Prints [problem, …] of each file that is named.
_READ = """
import json, sys
from pathlib import Path
import yaml
sys.path.insert(0, "workflow/lib")
import sweep_file
schema = yaml.safe_load(Path("workflow/schemas/sweep.schema.yaml").read_text())
answers = []
for name in sys.argv[1:]:
    try:
        sweep_file.read(Path(name), schema)
        answers.append([])
    except sweep_file.SweepError as error:
        answers.append(error.problems)
print(json.dumps(answers))
"""

_NO_FOLDER = (
    "not a name for a folder of results; letters, digits and . _ - are, but neither config, export, predictions nor "
    "seed<number>"
)

BAD: Dict[str, List[str]] = {
    "nme: s": ["nme: unknown key; did you mean name?", "name: missing"],
    "name: a/b": ["name: 'a/b' does not have the form ^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"],
    "{name: s, seeds: []}": ["seeds: [] is too short; at least 1 expected"],
    "{name: s, seeds: [1, 1]}": ["seeds: [1, 1] names something twice"],
    "{name: s, seeds: [-1]}": ["seeds[0]: -1 is out of range; at least 0 and at most 4294967295 is expected"],
    "{name: s, recipes: []}": ["recipes: [] is too short; at least 1 expected"],
    "{name: s, recipes: [a, a]}": ["recipes: ['a', 'a'] names something twice"],
    "{name: s, overrides: {}}": ["overrides: {} is too short; at least 1 expected"],
    "{name: s, overrides: {a: null}}": ["overrides.a: None is not a section with keys of its own"],
    "{name: s, overrides: {a: {}, a: {}}}": ["line 1: overrides.a: given twice, first on line 1; one would be lost"],
    "[1]": ["a table of sections such as name, train and evaluate is expected"],
    "{name: s, overrides: {a: {seeds: [1]}}}": [
        "overrides.a.seeds: cannot be overridden; they stand at the top of the sweep, the same for every variant"
    ],
    **{
        f"{{name: s, overrides: {{{name}: {{}}}}}}": [f"overrides.{name}: {_NO_FOLDER}"]
        for name in ("a/b", "../a", "seed3", "config", "x" * 61, "a b", "7")
    },
}


def test_a_bad_sweep_is_told_in_a_line_for_each_mistake(workflow: Workflow, tmp_path: Path) -> None:
    files = []
    for number, text in enumerate(BAD):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(text)
    command = [workflow.command()[0], "-c", _READ, *map(str, files)]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    found = [[line.partition(".yaml: ")[2] for line in problems] for problems in json.loads(answer)]
    assert dict(zip(BAD, found)) == BAD


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("base_lr: 0.02", "base_lrr: 1", "overrides.fast: train.base_lrr: unknown key; did you mean base_lr?"),
        ("base_lr: 0.02", "base_lr: high", "overrides.fast: train.base_lr: 'high' is not a number"),
        ("{train: {base_lr: 0.02}}", "{}", "base and fast are the same training;"),
        ("train: {base_lr: 0.02}", "train: {visualdl: false}", "fast: train.visualdl is false, but true in base"),
        ("name: study", "name: study\nrecipes: [x.yaml]", "recipes: named here, and "),
    ],
)
def test_experiments_that_cannot_be_are_refused_before_anything_starts(
    workflow: Workflow, old: str, new: str, expected: str
) -> None:
    assert SWEEP.count(old) == 1
    (workflow.place / "sweep.yaml").write_text(SWEEP.replace(old, new))
    outcome = workflow("--cores", 1, "--configfile", TINY, "--config", "sweep=sweep.yaml")
    assert outcome.returncode == 2, outcome.text[-2000:]
    (problem,) = outcome.problems()
    assert problem.startswith(f"stdc: sweep.yaml: {expected}")
    assert not (workflow.place / "results").exists() and not (workflow.place / "resources").exists()


def test_experiments_share_the_stages_of_the_data_and_nothing_else(workflow: Workflow) -> None:
    (workflow.place / "sweep.yaml").write_text(SWEEP)
    outcome = workflow("--dry-run", "--configfile", TINY, "--config", "sweep=sweep.yaml")
    assert outcome.returncode == 0, outcome.text[-4000:]
    jobs = outcome.jobs()
    # Two kinds of lists: all frames, and two of them.
    shared = {"make_synthetic": 1, "check_dataset": 1, "convert_labels": 1, "create_lists": 2}
    assert {rule: jobs[rule] for rule in shared} == shared
    assert (jobs["train"], jobs["evaluate"], jobs["measure_speed"], jobs["report"]) == (6, 12, 6, 3)
    assert outcome.problems()[:2] == [
        "stdc: sweep study: 3 experiments x 2 seeds = 6 trainings, into results/study",
        f"stdc:   base  {TINY}  the recipe as it is",
    ]


def test_one_experiment_of_a_sweep_can_be_asked_for(workflow: Workflow) -> None:
    (workflow.place / "sweep.yaml").write_text(SWEEP)
    words = ("--configfile", TINY, "--config", "sweep=sweep.yaml", "--", "results/study/fast/seed1/metrics.json")
    jobs = workflow.plan(*words)
    assert (jobs["train"], jobs["evaluate"], jobs["create_lists"]) == (1, 1, 1)


def test_pretrained_weights_of_all_experiments_are_fetched_once(workflow: Workflow) -> None:
    (workflow.place / "sweep.yaml").write_text(
        "name: study\noverrides:\n  random: {}\n  a: {model: {pretrained: {source: /a.safetensors}}}\n"
        "  b: {model: {pretrained: {source: /a.safetensors}}, train: {base_lr: 0.02}}\n"
        "  c: {model: {pretrained: {source: /c.safetensors}}}\n"
    )
    jobs = workflow.plan("--configfile", TINY, "--config", "sweep=sweep.yaml")
    assert (jobs["fetch_weights"], jobs["train"]) == (2, 4)


def test_a_sweep_runs_from_one_command_to_its_summary(workflow: Workflow) -> None:
    (workflow.place / "sweep.yaml").write_text(
        "name: study\noverrides:\n  base: {}\n  fast: {train: {base_lr: 0.02}}\n"
    )
    words = ("--configfile", TINY, "--config", "sweep=sweep.yaml")
    # Half a minute of work, on a machine that others use too.
    outcome = workflow.run(*words, timeout_s=900, typed=True)
    results = workflow.place / "results" / "study"
    summary = json.loads((results / "summary.json").read_text())
    assert [one["name"] for one in summary["experiments"]] == ["base", "fast"]
    # The table is the last that a person reads.
    closing = [*summary["lines"], "page: results/study/summary.html"]
    assert outcome.text.splitlines()[-len(closing) :] == closing
    for one in summary["experiments"]:
        metrics = json.loads((results / one["folder"] / "seed0" / "metrics.json").read_text())
        assert one["miou"]["mean"] == pytest.approx(100 * metrics["miou"])
        assert (results / one["folder"] / "report.html").is_file()
    # Two trainings, one dataset.
    assert len(list((workflow.place / "runs").iterdir())) == 2
    assert len(list((workflow.place / "resources").glob("*/manifest.json"))) == 1
    assert workflow.plan(*words) == {}
    # An edit of one override trains that experiment again, and no other; what stands in results/ of it is replaced.
    (workflow.place / "sweep.yaml").write_text(
        "name: study\noverrides:\n  base: {}\n  fast: {train: {base_lr: 0.03}}\n"
    )
    jobs = workflow.plan(*words)
    assert (jobs["train"], jobs["evaluate"], jobs["report"], jobs["summarize"]) == (1, 2, 1, 1)
