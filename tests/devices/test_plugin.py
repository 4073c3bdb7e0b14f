"""Programs on a stand-in for the plug-in `iluvatar_gpu`: a custom device of Paddle 3 in host memory.

It shows that everything around the kernels works on a plug-in: loading, selection, ranks, collectives, files, kills.
The kernels are the CPU's, so weights must have the CPU's bytes. It says nothing about the vendor's kernels.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import venv
from pathlib import Path
from typing import Dict

import pytest
from build import build_plugin
from trial import Trial, read, sha256, succeeded

paddle = pytest.importorskip("paddle")

DEVICE = "iluvatar_gpu"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Trial(tmp_path_factory.mktemp("data")).folder


@pytest.fixture(scope="module")
def trial(data: Path, plugin: Dict[str, str]) -> Trial:
    return Trial(data, environment=plugin)


@pytest.fixture(scope="module")
def on_cpu(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dict[int, Path]:
    """What trainings with 1 and 2 ranks leave on a CPU without any plug-in."""
    trial, folder = Trial(data), tmp_path_factory.mktemp("cpu")
    for ranks in (1, 2):
        succeeded(trial.train(folder / str(ranks), "cpu", ranks))
    return {ranks: folder / str(ranks) for ranks in (1, 2)}


@pytest.fixture(scope="module")
def on_plugin(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Dict[int, Path]:
    folder = tmp_path_factory.mktemp("double")
    for ranks in (1, 2):
        succeeded(trial.train(folder / str(ranks), DEVICE, ranks))
    return {ranks: folder / str(ranks) for ranks in (1, 2)}


@pytest.mark.parametrize("ranks", [1, 2])
def test_training_on_the_plug_in_has_the_bytes_of_the_cpu(
    plugin: Dict[str, str], on_cpu: Dict[int, Path], on_plugin: Dict[int, Path], ranks: int
) -> None:
    assert sha256(on_plugin[ranks] / "model.pdparams") == sha256(on_cpu[ranks] / "model.pdparams")
    assert (Path(plugin["CUSTOM_DEVICE_ROOT"]) / "used").exists(), "the stand-in marks that something was put on it"
    device = read(on_plugin[ranks] / "provenance.json")["device"]
    assert (device["kind"], device["visible"]) == (DEVICE, 2)


def test_batches_are_queued_for_the_device_and_not_waited_for(trial: Trial, tmp_path: Path) -> None:
    """How a plug-in is asked for the copies; that they overlap with computing needs a device."""
    trace = tmp_path / "trace"
    traced = Trial(trial.folder, environment={**trial.environment, "DOUBLE_TRACE": str(trace)})
    # Odd sizes, which no tensor of floats has.
    train = {"iterations": 3, "global_batch": 3, "crop_height": 37, "crop_width": 101, "evaluate": False}
    succeeded(traced.train(tmp_path / "out", DEVICE, 1, **train))
    copies = trace.read_text().splitlines()
    images, labels = 3 * 3 * 37 * 101, 3 * 37 * 101
    assert (copies.count(f"queued {images}"), copies.count(f"queued {labels}")) == (3, 3)
    # (The results of comparisons have the size of the labels, and are the stand-in's own business.)
    assert f"waited-for {images}" not in copies


def test_evaluation_on_the_plug_in_has_the_counts_of_the_cpu(
    trial: Trial, on_cpu: Dict[int, Path], tmp_path: Path
) -> None:
    succeeded(Trial(trial.folder).evaluate(on_cpu[1], tmp_path / "cpu.json", "cpu", 1))
    cpu = read(tmp_path / "cpu.json")
    for ranks in (1, 2):
        succeeded(trial.evaluate(on_cpu[1], tmp_path / f"{ranks}.json", DEVICE, ranks))
        ours = read(tmp_path / f"{ranks}.json")
        assert ours["confusion"] == cpu["confusion"], f"{ranks} ranks"
        assert ours["protocol"]["backend"].endswith(DEVICE)


@pytest.fixture(scope="module")
def interpreter_with_plugin(plugin: Dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the packages of this one, and the stand-in where pip would install a plug-in.

    Paddle looks for the folder `paddle_custom_device` beside its own, so that must be a folder of the new environment;
    what is in it are links.
    """
    prefix = tmp_path_factory.mktemp("environment")
    venv.create(prefix, with_pip=False, symlinks=True)
    site = next(prefix.glob("lib/python3.*/site-packages"))
    installed = Path(paddle.__file__).resolve().parent
    (site / "packages.pth").write_text(f"{installed.parent}\n")
    (site / "paddle" / "libs").mkdir(parents=True)
    for source in (*installed.iterdir(), *(installed / "libs").iterdir()):
        target = site / source.relative_to(installed.parent)
        if not target.exists():
            target.symlink_to(source)
    (site / "paddle_custom_device").symlink_to(plugin["CUSTOM_DEVICE_ROOT"])
    return str(prefix / "bin" / "python")


def test_installed_plug_in_is_found_without_being_named(interpreter_with_plugin: str, data: Path) -> None:
    """So that the next test does not pass for want of a plug-in."""
    trial = Trial(data, python=interpreter_with_plugin)
    ask = [trial.python, "-c", "import paddle; print(paddle.device.get_all_custom_device_type())"]
    answer = subprocess.run(ask, env=trial.environment, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "['iluvatar_gpu']"


@pytest.mark.parametrize("ranks", [1, 2])
def test_device_cpu_computes_on_the_cpu_although_a_plug_in_is_installed(
    interpreter_with_plugin: str,
    plugin: Dict[str, str],
    on_cpu: Dict[int, Path],
    data: Path,
    tmp_path: Path,
    ranks: int,
) -> None:
    """Paddle's launcher would give each rank a device of the plug-in, and connecting would move the rank there."""
    trial, mark = Trial(data, python=interpreter_with_plugin), Path(plugin["CUSTOM_DEVICE_ROOT"]) / "used"
    mark.unlink(missing_ok=True)
    succeeded(trial.train(tmp_path, "cpu", ranks))
    assert sha256(tmp_path / "model.pdparams") == sha256(on_cpu[ranks] / "model.pdparams")
    assert read(tmp_path / "provenance.json")["device"]["kind"] == "cpu"
    assert not mark.exists(), "something was put on the plug-in's device"


def test_more_devices_than_visible_are_refused_before_anything_starts(trial: Trial, tmp_path: Path) -> None:
    started = time.monotonic()
    result = trial.train(tmp_path, DEVICE, 4)
    assert result.returncode == 2, result.stderr
    assert "4 x iluvatar_gpu asked for, 2 visible" in result.stderr
    assert not list(tmp_path.rglob("workerlog.*"))
    assert time.monotonic() - started < 60


def test_doctor_finds_the_plug_in_sound(trial: Trial, tmp_path: Path) -> None:
    """All but the driver: there is no `ixsmi` to ask."""
    report = tmp_path / "doctor.json"
    result = trial.run("doctor", "--device", DEVICE, "--devices", 2, "--threads", 1, "--directory", tmp_path,
                       "--json", report)  # fmt: skip
    findings = {finding["check"]: finding for finding in read(report)["findings"]}
    assert findings["driver"]["level"] == "problem" and result.returncode == 2
    for check in ("paddle", "devices", "two images evaluated", "training memory", "all-reduce"):
        assert findings[check]["level"] == "ok", findings[check]
    assert "2 ranks" in findings["all-reduce"]["found"]
    assert ": peak " in findings["training memory"]["found"]
    assert "synchronized by collectives of ours, for want of a kernel" in findings["all-reduce"]["found"]


def test_kernel_that_gets_synchronized_batch_norm_wrong_is_found_out_and_not_used(
    plugin: Dict[str, str], on_cpu: Dict[int, Path], data: Path, tmp_path: Path
) -> None:
    """A plug-in may bring the kernel; whether it sees the other ranks is tried before the first step."""
    root = tmp_path / "plugin"
    root.mkdir()
    build_plugin(root, Path(paddle.sysconfig.get_include()), wrong_norm=True)
    trial = Trial(data, environment={**plugin, "CUSTOM_DEVICE_ROOT": str(root)})
    result = trial.train(tmp_path / "out", DEVICE, 2)
    succeeded(result)
    assert "synchronized batch norm is not usable on iluvatar_gpu (rank 0: " in result.stderr
    assert "beginning again with collectives of ours in its place" in result.stderr
    assert read(tmp_path / "out" / "provenance.json")["identity"]["sync_batch_norm"] == "portable"
    assert sha256(tmp_path / "out" / "model.pdparams") == sha256(on_cpu[2] / "model.pdparams")


def test_killed_rank_ends_the_run_and_the_next_start_has_the_same_bytes(
    trial: Trial, on_cpu: Dict[int, Path], tmp_path: Path
) -> None:
    arguments = trial.train_arguments(tmp_path, DEVICE, 2)
    process = subprocess.Popen(
        trial.command("train", *arguments), env=trial.environment, stderr=subprocess.PIPE, text=True
    )
    victim = _rank_of(tmp_path, 1)
    os.kill(victim, signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert not (tmp_path / "model.pdparams").exists()
    succeeded(trial.run("train", *arguments))
    assert sha256(tmp_path / "model.pdparams") == sha256(on_cpu[2] / "model.pdparams")


def _rank_of(folder: Path, rank: int) -> int:
    """The process id of a rank that works below `folder`, as soon as there is one."""
    deadline = time.monotonic() + 60
    wanted = f"PADDLE_TRAINER_ID={rank}".encode()
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if wanted in environment and str(folder).encode() in command and b"train.py" in command:
                return int(entry.name)
        time.sleep(0.1)
    raise AssertionError("no rank has started")


def test_stop_is_obeyed_and_the_run_goes_on_from_there(trial: Trial, tmp_path: Path) -> None:
    arguments = trial.train_arguments(tmp_path, DEVICE, 2, iterations=400, save_interval=400, eval_interval=400)
    process = subprocess.Popen(
        trial.command("train", *arguments), env=trial.environment, stderr=subprocess.PIPE, text=True
    )
    history = None
    deadline = time.monotonic() + 60
    while history is None and time.monotonic() < deadline:
        time.sleep(0.1)
        history = next((path for path in tmp_path.rglob("history.jsonl") if path.stat().st_size), None)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    checkpoints = list(tmp_path.glob("runs/*/checkpoints/*/manifest.json"))
    assert len(checkpoints) == 1 and json.loads(checkpoints[0].read_text())
