"""The shape of the DAG for each kind of input, and what an edit runs again."""

from __future__ import annotations

import json
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from programs import run_program
from snakemake_runs import TINY, Workflow, copy_of_the_code, edit
from tiny import make_tiny_dataset

from stdc.files import sha256_file

pytestmark = pytest.mark.workflow

CHAIN = {
    "check_dataset": 1,
    "convert_labels": 1,
    "create_lists": 1,
    "write_config": 5,
    "train": 1,
    "evaluate": 2,
    "measure_speed": 1,
    "report": 1,
}
GENERATED = {"write_config": 6, "make_synthetic": 1}


def test_without_a_dataset_one_is_drawn(workflow: Workflow) -> None:
    assert workflow.plan() == {**CHAIN, **GENERATED}


def test_a_folder_of_the_users_is_checked_and_used(workflow: Workflow, tiny_dataset: Path) -> None:
    assert workflow.plan("--configfile", TINY, "--config", f"dataset={tiny_dataset}") == CHAIN


def test_two_zips_are_unpacked_first(workflow: Workflow, tmp_path: Path) -> None:
    folder = tmp_path / "zips"
    folder.mkdir()
    for name in ("gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"):
        zipfile.ZipFile(folder / name, "w").close()
    assert workflow.plan("--configfile", TINY, "--config", f"dataset={folder}") == {**CHAIN, "extract_dataset": 1}
    (folder / "leftImg8bit").mkdir()
    assert workflow.plan("--configfile", TINY, "--config", f"dataset={folder}") == CHAIN


def test_each_seed_is_trained_and_scored(workflow: Workflow) -> None:
    expected = {**CHAIN, **GENERATED, "train": 2, "evaluate": 4, "measure_speed": 2}
    assert workflow.plan("--configfile", TINY, "--config", "seeds=[0, 7]") == expected


def test_pretrained_weights_are_fetched_once_for_all_seeds(workflow: Workflow) -> None:
    words = ["seeds=[0, 7]", "model={pretrained: {source: /no/such.safetensors}}"]
    plan = workflow.plan("--configfile", TINY, "--config", *words)
    assert (plan["fetch_weights"], plan["train"]) == (1, 2)


def test_without_evaluation_during_training_there_is_no_best(workflow: Workflow) -> None:
    assert workflow.plan("--configfile", TINY, "--config", "train={evaluate: false}")["evaluate"] == 1


def test_profiles_choose_the_device(workflow: Workflow) -> None:
    os.environ["STDC_DEVICES"] = "4"
    try:
        for profile, device in (("cuda", "gpu"), ("corex", "gpu")):
            place = workflow.code / "profiles" / profile
            words = ["--config", "train={global_batch: 8}"]
            outcome = workflow("--dry-run", "--printshellcmds", "--configfile", TINY, "--profile", place, *words)
            assert outcome.returncode == 0, outcome.text
            assert outcome.text.count(f"--device {device} ") == 4
            # One training, two evaluations.
            assert outcome.text.count("--devices 4 ") == 3
    finally:
        del os.environ["STDC_DEVICES"]


def test_the_generated_dataset_is_named_by_its_section(workflow: Workflow) -> None:
    first = workflow("--dry-run", "--configfile", TINY).text
    other = workflow("--dry-run", "--configfile", TINY, "--config", "synthetic={seed: 1}").text
    same = workflow("--dry-run", "--configfile", TINY, "--config", "train={iterations: 5}").text
    keys = [text[text.index("resources/synthetic-") :][:32] for text in (first, other, same)]
    assert keys[0] == keys[2] != keys[1]


class Finished:
    """A checkout of the test's own in which the tiny recipe has run on a dataset of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.code = copy_of_the_code(folder / "code")
        self.recipe = self.code / "tiny.yaml"
        self.recipe.write_text(TINY.read_text(encoding="utf-8"), encoding="utf-8")
        self.dataset = make_tiny_dataset(folder / "a b;$(touch x)'\"", height=64, width=128)
        self.workflow = Workflow(self.code, self.code)
        self.options = ["--configfile", "tiny.yaml", "--config", f"dataset={self.dataset}"]
        self.before = snapshot(self.dataset)
        self.first = self.workflow.run(*self.options, typed=True)


def snapshot(folder: Path) -> dict:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def restored(finished: Finished):
    """The finished run; edits of the recipe are taken back afterwards."""
    text = finished.recipe.read_text(encoding="utf-8")
    yield finished
    finished.recipe.write_text(text, encoding="utf-8")


def test_a_finished_run_has_everything_and_nothing_left_to_do(finished: Finished) -> None:
    results = finished.code / "results" / "tiny"
    seed = {"model.pdparams", "best.pdparams", "history.jsonl", "provenance.json", "vdl"}
    seed |= {"metrics.json", "metrics_best.json", "speed.json"}
    # The hidden folder holds second names of what `train` leaves: see `stdc.training.finished`.
    assert {path.name for path in (results / "seed0").iterdir()} == seed | {".finished"}
    pages = {"report.html", "report_metrics_only.html"}
    assert {path.name for path in results.iterdir()} == {"config", "seed0", "verdict.json"} | pages
    assert finished.workflow.plan(*finished.options) == {}


def test_the_forecast_is_told_once_before_the_first_job(finished: Finished) -> None:
    text = finished.first.text
    assert text.count("forecast: dataset: ") == 1
    assert text.index("forecast: dataset: ") < text.index("] check_dataset ...")
    assert "forecast:   - the dataset is not the full Cityscapes: 4 training and 4 validation frames" in text


def test_snakemakes_own_report_can_be_made(finished: Finished, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    outcome = finished.workflow("--report", page, *finished.options)
    assert outcome.returncode == 0, outcome.text
    assert page.is_file()


def test_the_users_dataset_is_untouched_and_its_name_is_never_run(finished: Finished) -> None:
    assert snapshot(finished.dataset) == finished.before
    assert not (finished.code / "x").exists()


def test_judging_the_trained_weights_gives_the_same_integers_without_training(finished: Finished) -> None:
    weights = "results/tiny/seed0/model.pdparams"
    options = [*finished.options, f"weights={weights}"]
    judged = finished.workflow.run(*options, "--", "judge")
    jobs = {"write_config": 3, "import_weights": 1, "evaluate": 1, "measure_speed": 1, "report": 1, "judge": 1}
    assert judged.jobs() == jobs
    assert "forecast:" not in judged.text
    trained, taken = (finished.code / "results" / name / "seed0" for name in ("tiny", "tiny-judge"))
    before, after = (json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (trained, taken))
    assert after["confusion"] == before["confusion"]
    assert after == before, "the weights are written with the same bytes, so even their hash is the same"
    record = json.loads((taken / "weights.json").read_text(encoding="utf-8"))
    assert record["source"] == weights and record["sha256"] == sha256_file(finished.code / weights)
    verdict = json.loads((taken.parent / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["verdict"] == "NOT COMPARABLE" and verdict["initialization"]["kind"] == "judged"
    assert any("how these weights were trained is not known" in text for text in verdict["reasons"])
    assert json.loads((taken / "speed.json").read_text(encoding="utf-8"))["training"] is None
    assert not (taken / "history.jsonl").exists() and not (taken / "provenance.json").exists()
    resources = finished.code / "resources"
    verified = run_program("verify", taken.parent, "--resources", resources, "--dataset", finished.dataset, "--json")
    assert verified.returncode == 0, verified.stderr
    found = {Path(one["subject"]).name: one["outcome"] for one in json.loads(verified.stdout)}
    # The path of the weights was relative to the checkout.
    assert {name for name, outcome in found.items() if outcome != "ok"} == {"weights.json: sha256"}
    assert found["verdict.json"] == found["metrics.json: manifest_sha256"] == "ok"
    # Another file under the same name is judged anew; nothing else is.
    assert finished.workflow.plan(*options, "--", "judge") == {}
    other = finished.code / "other.pdparams"
    other.write_bytes((finished.code / "results/tiny/seed0/best.pdparams").read_bytes())
    assert "import_weights" in finished.workflow.plan(*finished.options, "weights=other.pdparams", "--", "judge")


def test_weights_without_the_target_judge_train_nothing(finished: Finished) -> None:
    plan = finished.workflow.plan(*finished.options, "weights=results/tiny/seed0/model.pdparams")
    assert "train" not in plan


def test_judge_without_weights_says_what_to_name(workflow: Workflow) -> None:
    outcome = workflow("-n", "--configfile", TINY, "--", "judge")
    assert outcome.returncode == 2
    assert outcome.problems() == [
        "stdc: weights: null; name what to judge, for example --config weights=model.pdparams"
    ]


def test_weights_of_another_network_are_refused_in_words(workflow: Workflow, tmp_path: Path) -> None:
    (tmp_path / "nonsense.pdparams").write_bytes(b"nonsense")
    for name in (tmp_path / "nonsense.pdparams", "nowhere.pdparams"):
        outcome = workflow(
            "--cores", 2, "--configfile", TINY, "--config", f"weights={name}",
            "--", "results/tiny-judge/seed0/model.pdparams",
        )  # fmt: skip
        assert outcome.returncode == 2, outcome.text
        assert Path(name).name in outcome.text[outcome.text.index("stdc: import_weights (seed 0) failed") :]


def test_every_job_left_a_log_and_a_benchmark(finished: Finished) -> None:
    for rule in ("check_dataset", "convert_labels", "create_lists", "train", "evaluate", "measure_speed", "report"):
        assert list((finished.code / "logs" / rule).iterdir())
        assert list((finished.code / "logs" / "benchmark" / rule).iterdir())


def test_a_training_edit_retrains(restored: Finished) -> None:
    edit(restored.recipe, "iterations: 4", "iterations: 6")
    plan = restored.workflow.plan(*restored.options)
    assert plan == {"write_config": 3, "train": 1, "evaluate": 2, "measure_speed": 1, "report": 1}


def test_an_edit_counts_where_times_alone_tell_what_is_out_of_date(restored: Finished) -> None:
    """A profile of the user's with `rerun-triggers: mtime`, or Snakemake's records deleted."""
    target = "results/tiny/config/train.json"
    times = ["--rerun-triggers", "mtime"]
    edit(restored.recipe, "iterations: 4", "iterations: 6")
    looked = restored.workflow("--dry-run", *times, *restored.options)
    assert f"stdc: to be written anew for this recipe: {target}" in looked.text
    assert '"iterations": 4' in (restored.code / target).read_text(encoding="utf-8")
    try:
        assert restored.workflow("--cores", 1, *times, *restored.options, "--", target).returncode == 0
        assert '"iterations": 6' in (restored.code / target).read_text(encoding="utf-8")
        assert restored.workflow.plan(*times, *restored.options)["train"] == 1
    finally:
        edit(restored.recipe, "iterations: 6", "iterations: 4")
        restored.workflow("--cores", 1, *restored.options, "--", target)
    assert restored.workflow.plan(*restored.options) == {}


def test_another_seed_keeps_the_first(restored: Finished) -> None:
    edit(restored.recipe, "seeds: [0]", "seeds: [0, 1]")
    plan = restored.workflow.plan(*restored.options)
    assert plan == {"write_config": 1, "train": 1, "evaluate": 2, "measure_speed": 1, "report": 1}


def test_hardware_never_makes_finished_work_run_again(restored: Finished) -> None:
    edit(restored.recipe, "threads: 1, workers: 0", "threads: 4, workers: 3")
    assert restored.workflow.plan(*restored.options) == {}


def test_touching_files_does_nothing(finished: Finished) -> None:
    (finished.code / "stdc" / "unused.py").write_text("", encoding="utf-8")
    for name in ("stdc/unused.py", "config/config.yaml", "workflow/scripts/train.py", "stdc/nn/blocks.py"):
        os.utime(finished.code / name)
    assert finished.workflow.plan(*finished.options) == {}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("workflow/scripts/report.py", {"report": 1}),
        ("workflow/scripts/measure_speed.py", {"measure_speed": 1, "report": 1}),
        ("stdc/data/transforms.py", {"train": 1, "evaluate": 2, "measure_speed": 1, "report": 1}),
    ],
)
def test_an_edit_of_code_reruns_what_uses_it(finished: Finished, file: str, expected: dict) -> None:
    path = finished.code / file
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "# edited\n", encoding="utf-8")
    try:
        plan = finished.workflow.plan(*finished.options)
    finally:
        path.write_text(text, encoding="utf-8")
    assert plan == expected


def test_a_changed_dataset_is_checked_again(finished: Finished) -> None:
    image = next(finished.dataset.rglob("*_leftImg8bit.png"))
    times = image.stat()
    os.utime(image)
    try:
        assert "check_dataset" in finished.workflow.plan(*finished.options)
    finally:
        os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert finished.workflow.plan(*finished.options) == {}


def test_a_deleted_result_is_made_again(finished: Finished) -> None:
    speed = finished.code / "results" / "tiny" / "seed0" / "speed.json"
    speed.rename(speed.with_suffix(".kept"))
    try:
        assert finished.workflow.plan(*finished.options) == {"measure_speed": 1, "report": 1}
    finally:
        speed.with_suffix(".kept").rename(speed)


def test_a_missing_interpreter_is_named_before_anything_runs(workflow: Workflow, tiny_dataset: Path) -> None:
    command = workflow.command("--cores", 1, "--configfile", TINY, "--config", f"dataset={tiny_dataset}")
    environment = {**workflow.environment(), "STDC_PYTHON": "/no/such/python"}
    done = subprocess.run(
        command, cwd=workflow.place, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "stdc: STDC_PYTHON: /no/such/python is not a program; name the Python that has paddle" in done.stderr
    assert not (workflow.place / "resources").exists()


def test_wrong_input_of_a_program_ends_the_run_with_its_words_and_code(workflow: Workflow, tiny_dataset: Path) -> None:
    image = next(tiny_dataset.rglob("*_leftImg8bit.png"))
    image.write_bytes(image.read_bytes()[:100])
    outcome = workflow("--cores", 1, "--configfile", TINY, "--config", f"dataset={tiny_dataset}")
    assert outcome.returncode == 2
    assert "Traceback" not in outcome.text
    # Told by the program, in full, and named at the end, where the user looks.
    assert outcome.text.count(image.name) == 1
    (line,) = outcome.problems()
    assert line.startswith("stdc: check_dataset failed: ") and "told above and in logs/check_dataset/" in line
    assert not list(workflow.place.glob("resources/*/manifest.json"))


def test_a_second_run_in_the_same_folder_is_refused_and_looking_is_not(workflow: Workflow, tiny_dataset: Path) -> None:
    words = ["--configfile", TINY, "--config", f"dataset={tiny_dataset}", "train={iterations: 2000}"]
    first = subprocess.Popen(
        workflow.command("--cores", 1, *words),
        cwd=workflow.place,
        env=workflow.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        lock = workflow.place / ".stdc.lock"
        deadline = time.monotonic() + 60
        while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        second = workflow("--cores", 1, *words)
        assert second.returncode == 1
        (line,) = second.problems()
        assert f"another run is at work in this directory (process {first.pid} on " in line
        assert workflow.plan(*words)
    finally:
        os.killpg(first.pid, 9)
        first.wait()
    # Killed without a chance to clean up: the kernel has dropped the lock.
    assert workflow("--cores", 1, *words, "--", "results/tiny/config/speed.json").returncode == 0


def test_an_evaluation_edit_does_not_retrain(restored: Finished) -> None:
    """The last test of the finished run, of which it leaves another one."""
    seed = restored.code / "results" / "tiny" / "seed0"
    before = (seed / "model.pdparams").stat().st_mtime_ns
    restored.recipe.write_text(
        restored.recipe.read_text(encoding="utf-8") + "evaluate: {protocols: [{name: flipped, flip: true}]}\n", "utf-8"
    )
    outcome = restored.workflow.run(*restored.options)
    assert outcome.jobs() == {"write_config": 2, "evaluate": 2, "report": 1}
    assert (seed / "model.pdparams").stat().st_mtime_ns == before
    assert '"flipped"' in (seed / "metrics.json").read_text(encoding="utf-8")
