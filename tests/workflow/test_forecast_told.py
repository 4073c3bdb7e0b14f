"""The forecast where a user meets it: before a training starts and in a dry run, and for no other target."""

from __future__ import annotations

import subprocess

import pytest
from snakemake_runs import TINY, Outcome, Workflow

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["name=one", "dataset="], "--config: dataset: empty; is a variable of the shell unset?"),
        (["model={pretrained: {source: }}"], "--config: model.pretrained.source: empty"),
        (["seeds=[0, '']"], "--config: seeds[1]: empty"),
    ],
)
def test_an_unset_variable_is_refused_and_not_taken_for_the_generated_dataset(
    workflow: Workflow, words: list, expected: str
) -> None:
    outcome = workflow("-n", "--configfile", TINY, "--config", *words)
    assert outcome.returncode == 2
    assert outcome.problems()[0].startswith(f"stdc: {expected}")


@pytest.mark.parametrize(
    "options",
    [
        ["--config", "seeds=[1]", "--config", "name=two"],
        ["-C", "seeds=[1]", "--config=name=two"],
        ["-Cseeds=[1]", "-C", "name=two"],
    ],
)
def test_config_given_twice_is_refused_since_snakemake_drops_the_first(workflow: Workflow, options: list) -> None:
    outcome = workflow("-n", "--configfile", TINY, *options)
    assert outcome.returncode == 2
    assert outcome.problems() == [
        "stdc: --config: given 2 times, and Snakemake keeps the last one only; put everything behind one --config"
    ]


def test_configfile_given_twice_is_refused_too(workflow: Workflow) -> None:
    outcome = workflow("-n", "--configfile", TINY, "--configfiles", TINY)
    assert outcome.returncode == 2
    assert outcome.problems()[0].startswith("stdc: --configfile: given 2 times")
    assert workflow("-n", "--configfile", TINY, TINY).returncode == 0


def test_config_of_a_profile_that_the_command_line_would_replace_is_refused(workflow: Workflow) -> None:
    (workflow.place / "mine").mkdir()
    (workflow.place / "mine" / "config.yaml").write_text("config:\n- name=three\n", encoding="utf-8")
    alone = workflow("-n", "--profile", "mine", "--configfile", TINY)
    assert alone.returncode == 0, alone.text
    both = workflow("-n", "--profile", "mine", "--configfile", TINY, "--config", "name=two")
    assert both.returncode == 2
    assert both.problems() == [
        "stdc: --config: the profile mine states it, the command line too, and Snakemake keeps one of them only; take "
        "it out of the profile"
    ]


def test_a_dry_run_tells_the_forecast_once_for_the_devices_that_a_profile_gives(workflow: Workflow) -> None:
    devices = ["--set-resources", "train:device=gpu", "train:devices=2"]
    outcome = workflow("-n", "--configfile", TINY, *devices, "--config", "seeds=[0, 1]")
    assert outcome.returncode == 0, outcome.text
    assert outcome.text.count("forecast: dataset: generated, a mini-Cityscapes: 4 training and 2 validation") == 1
    assert "4 iterations of 2 images: 8 samples, 2.0 epochs of 4, for each of 2 seeds" in outcome.text
    assert "comparable with none of 6 published figures of STDC1-Seg" in outcome.text
    assert " on 2 x gpu\n" in outcome.text


def test_a_target_without_training_gets_no_forecast(workflow: Workflow) -> None:
    outcome = workflow("-n", "--configfile", TINY, "--", "results/tiny/config/train.json")
    assert outcome.returncode == 0 and "forecast:" not in outcome.text


@pytest.mark.parametrize("mode", [["-n"], ["--cores", 1]])
def test_a_run_that_must_be_comparable_and_is_not_is_refused_before_anything_starts(
    workflow: Workflow, mode: list
) -> None:
    outcome = workflow(*mode, "--configfile", TINY, "--config", "require_comparable=true")
    assert outcome.returncode == 2
    text = "\n".join(outcome.problems())
    assert "require_comparable is true, and this run would be comparable with no published figure" in text
    for change in (
        "dataset: the folder of the full Cityscapes",
        "train.iterations: 80000",
        "require_comparable: false",
    ):
        assert change in text
    assert [path.name for path in workflow.place.iterdir() if path.name not in (".snakemake", "logs")] == []


def test_a_dry_run_without_an_interpreter_says_that_there_is_no_forecast(workflow: Workflow) -> None:
    environment = {**workflow.environment(), "STDC_PYTHON": "/no/such/python"}
    command = workflow.command("-n", "--configfile", TINY)
    completed = subprocess.run(
        command, cwd=workflow.place, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    outcome = Outcome(completed, workflow.place)
    assert outcome.returncode == 0, outcome.text
    assert outcome.problems()[0].startswith("stdc: no forecast: STDC_PYTHON: /no/such/python is not a program")
