"""The doctor: findings from made-up facts, figures from real ones, and one examination of this machine."""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from programs import assert_refused, run_program

from stdc.doctor import device_checks, facts, libraries, run_checks, software_checks
from stdc.doctor.examination import Settings, examine
from stdc.doctor.findings import OK, PROBLEM, WARNING, Finding, table
from stdc.doctor.plan import Plan, as_dict, from_dict, make_plan
from stdc.errors import InputError
from stdc.machine import commands
from stdc.published.reference import load_reference

# Written after the public documents of the two vendors (layout and field names), not recorded on a card.
NVIDIA_SMI = """\
Tue Jan  9 10:00:00 2024
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 535.104.05             Driver Version: 535.104.05   CUDA Version: 12.2     |
|-----------------------------------------+----------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id        Disp.A | Volatile Uncorr. ECC |
"""
IXSMI = """\
Timestamp    Sun May 14 08:04:27 2023
+-----------------------------------------------------------------------------+
|  IX-ML: 3.1.0       Driver Version: 3.1.0       CUDA Version: 10.2          |
|-------------------------------+----------------------+----------------------|
| 0    Iluvatar BI-V100         | 00000000:14:00.0     | 1500MHz   1200MHz    |
"""

CONFIG: Dict[str, Any] = {
    "model": {"backbone": "stdc1"},
    "train": {
        "preset": "paddleseg",
        "iterations": 80000,
        "global_batch": 96,
        "crop_height": 512,
        "crop_width": 1024,
        "keep_checkpoint_max": 3,
    },
    "evaluate": {"protocols": [{"scales": [1.0]}, {"scales": [0.75, 1.25], "flip": True}]},
    "seeds": [0, 1],
}


def plan_of(config: Dict[str, Any] = CONFIG, **changes: Any) -> Plan:
    values: Dict[str, Any] = {"device": "gpu", "devices": 8, "threads": 1, "workers": 6, "dataset": None, "folder": "."}
    return make_plan(config, **{**values, **changes})


def test_plan_states_what_the_published_recipe_asks_for() -> None:
    plan = plan_of()
    assert (plan.device_batch, plan.crop, plan.eval_size) == (12, (512, 1024), (1024, 2048))
    assert (plan.scale, plan.flip, plan.seeds) == (1.25, True, 2)
    # The recipe's kernels, which its training will take too; as plain values, since a process of its own reads them.
    assert plan.kernel_flags["cudnn_deterministic"] is True
    assert from_dict(json.loads(json.dumps(as_dict(plan)))) == plan
    # Eight devices, four batches of 12 crops each, three 8-bit colors and an 8-bit label per pixel.
    assert plan.batches_in_flight_bytes() == 8 * 4 * 12 * 512 * 1024 * 4
    # Two seeds; weights and momentum, three kept and one in the making, and the best weights.
    weights = 4 * load_reference().backbones["stdc1"].stored_numbers
    assert plan.disk_needs()["checkpoints"] == 2 * (4 * 2 * weights + weights)


def test_plan_reads_the_evaluation_size_from_the_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "leftImg8bit" / "val" / "ulm"
    folder.mkdir(parents=True)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 960, 720)
    (folder / "ulm_000000_000019_leftImg8bit.png").write_bytes(header)
    plan = plan_of(dataset=str(tmp_path))
    assert plan.eval_size == (720, 960)
    assert plan.data_bytes == int(720 * 960 * 0.1)


def test_plan_counts_the_space_that_archives_unpack_to(tmp_path: Path) -> None:
    (tmp_path / "gtFine_trainvaltest.zip").write_bytes(b"x" * 1000)
    assert plan_of(dataset=str(tmp_path)).data_bytes == 1000


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"dataset": "/no/such/folder"}, "/no/such/folder: no such folder"),
        ({"devices": 97}, "train.global_batch: 96"),
    ],
)
def test_plan_refuses_what_cannot_run(changes: Dict[str, Any], fragment: str) -> None:
    with pytest.raises(InputError, match=fragment):
        plan_of(**changes)


def test_plan_names_a_section_that_is_missing() -> None:
    with pytest.raises(InputError, match="'evaluate' is missing"):
        plan_of({key: value for key, value in CONFIG.items() if key != "evaluate"})


def test_sizes_of_the_networks_are_those_of_the_files_they_save() -> None:
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import state_arrays

    for name, published in load_reference().backbones.items():
        arrays = state_arrays(build_segmentor(name, unused_heads=True))
        assert sum(array.size for array in arrays.values()) == published.stored_numbers


# ---- drivers


def test_nvidia_smi_is_read() -> None:
    assert device_checks.read_nvidia_smi(NVIDIA_SMI) == {"driver": "535.104.05", "cuda": "12.2"}
    assert device_checks.read_nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate with the driver") == {}


def test_ixsmi_is_read() -> None:
    assert device_checks.read_ixsmi(IXSMI) == {"driver": "3.1.0", "sdk": "3.1.0"}
    assert device_checks.read_ixsmi("") == {}


@pytest.mark.parametrize(
    ("driver", "runs", "cuda", "level"),
    [
        ("535.104.05", "12.2", "11.8", OK),
        ("535.104.05", "12.2", "12.2", OK),
        # Same family, older minor version: NVIDIA promises that it runs.
        ("535.104.05", "12.2", "12.6", WARNING),
        ("450.80.02", "11.0", "11.8", WARNING),
        ("450.51.06", "11.0", "11.8", PROBLEM),
        ("470.82.01", "11.4", "12.6", PROBLEM),
        ("535.104.05", "12.2", "13.0", PROBLEM),
    ],
)
def test_nvidia_driver_is_held_against_the_cuda_of_paddle(driver: str, runs: str, cuda: str, level: str) -> None:
    output = NVIDIA_SMI.replace("535.104.05", driver).replace("12.2", runs)
    assert device_checks.check_nvidia_driver(output, cuda).level == level


def test_nvidia_tool_that_fails_is_quoted() -> None:
    finding = device_checks.check_nvidia_driver("NVIDIA-SMI has failed because it couldn't communicate", "11.8")
    assert finding.level == PROBLEM and "has failed" in finding.found
    assert "--gpus all" in device_checks.check_nvidia_driver(None, "11.8").fix


@pytest.mark.parametrize(
    ("driver", "sdk", "level"),
    [("3.1.0", "3.1.0", OK), ("3.1.0", "", OK), ("3.0.1", "3.1.0", WARNING), ("4.1.0", "3.1.0", PROBLEM)],
)
def test_iluvatar_driver_is_held_against_the_sdk(driver: str, sdk: str, level: str) -> None:
    output = IXSMI.replace("Driver Version: 3.1.0", f"Driver Version: {driver}")
    assert device_checks.check_iluvatar_driver(output, sdk).level == level


def test_sdk_version_is_in_the_name_of_its_paddle() -> None:
    assert facts.corex_sdk("2.4.1+corex.3.1.0") == "3.1.0"


# ---- packages and paddle

VERSIONS = {"numpy": "1.26.4", "google.protobuf": "3.20.3", "cv2": "4.8.1"}


def packages(**versions: str) -> Dict[str, Dict[str, str]]:
    found = {name: {"version": VERSIONS.get(name, "1.0")} for name in software_checks.package_names()}
    found.update({name.replace("_", "."): {"version": version} for name, version in versions.items()})
    return found


@pytest.mark.parametrize(
    ("paddle", "versions", "pure", "level"),
    [
        ("2.6.2", {}, False, OK),
        ("3.3.1", {"numpy": "2.3.5", "google_protobuf": "7.36.2"}, False, OK),
        ("2.6.2", {"numpy": "2.0.0"}, False, PROBLEM),
        ("2.6.2", {"google_protobuf": "7.0.0"}, False, PROBLEM),
        ("2.4.1+corex.3.1.0", {"google_protobuf": "4.25.0"}, False, PROBLEM),
        ("2.4.1+corex.3.1.0", {"google_protobuf": "4.25.0"}, True, OK),
    ],
)
def test_packages_are_held_against_this_paddle(paddle: str, versions: Dict[str, str], pure: bool, level: str) -> None:
    assert software_checks.check_packages(packages(**versions), paddle, pure).level == level


def test_missing_libgl_is_fixed_by_name() -> None:
    found = packages()
    found["cv2"] = {"error": "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"}
    finding = software_checks.check_packages(found, "3.3.1", False)
    assert finding.level == PROBLEM
    assert "libgl1" in finding.fix and "mesa-libGL" in finding.fix


@pytest.mark.parametrize(
    ("found", "device", "level", "fix"),
    [
        ({"version": "3.3.1", "cuda": None, "custom": []}, "cpu", OK, ""),
        ({"version": "3.3.1", "cuda": None, "custom": []}, "gpu", PROBLEM, "stdc:cuda"),
        ({"version": "2.4.1", "cuda": "10.2", "custom": []}, "gpu", OK, ""),
        ({"version": "2.4.1", "cuda": "10.2", "custom": []}, "iluvatar_gpu", PROBLEM, "--device gpu"),
        ({"version": "3.3.0", "cuda": None, "custom": ["iluvatar_gpu"]}, "iluvatar_gpu", OK, ""),
        ({"version": "2.3.2", "cuda": None, "custom": []}, "cpu", PROBLEM, "2.4"),
        ({"error": "ImportError: libcudart.so.10.2: cannot open"}, "gpu", PROBLEM, "LD_LIBRARY_PATH"),
        ({"error": "ModuleNotFoundError: No module named 'paddle'"}, "cpu", PROBLEM, "make setup"),
    ],
)
def test_paddle_is_held_against_the_device(found: Dict[str, Any], device: str, level: str, fix: str) -> None:
    finding = software_checks.check_paddle(found, device)
    assert finding.level == level
    assert fix in finding.fix


# ---- resources


@pytest.mark.parametrize(
    ("device", "asked", "visible", "closed", "level"),
    [
        ("cpu", 1, 1, [], OK),
        ("gpu", 8, 8, [], OK),
        ("gpu", 4, 8, [], OK),
        ("gpu", 8, 4, [], PROBLEM),
        ("gpu", 1, 0, [], PROBLEM),
        ("gpu", 1, None, [], PROBLEM),
        ("iluvatar_gpu", 1, 0, ["/dev/iluvatar0"], PROBLEM),
    ],
)
def test_devices_are_counted_against_those_asked_for(
    device: str, asked: int, visible: Any, closed: List[str], level: str
) -> None:
    finding = device_checks.check_devices(device, asked, visible, closed)
    assert finding.level == level
    assert bool(closed) == ("--group-add" in finding.fix)
    assert (visible == 4 and asked == 8) == ("STDC_DEVICES=4" in finding.fix)


@pytest.mark.parametrize(
    ("free", "changes", "level"),
    [
        (64_000_000, {}, PROBLEM),
        (8_000_000_000, {}, OK),
        (None, {}, PROBLEM),
        # One device exchanges nothing, and batches do not lie there.
        (64_000_000, {"devices": 1}, OK),
        (64_000_000, {"device": "cpu"}, OK),
        (None, {"devices": 1}, OK),
    ],
)
def test_shared_memory_is_held_against_devices(free: Any, changes: Dict[str, Any], level: str) -> None:
    finding = run_checks.check_shared_memory(free, plan_of(**changes))
    assert finding.level == level
    assert ("--shm-size" in finding.fix) == (level == PROBLEM)


FRAMES = 2975
#: Blocks of 64 x 256 pixels of 4 bytes, and a head of whole pages of 4096.
CACHED = FRAMES * (4096 + 16 * 8 * 64 * 256 * 4)


@pytest.mark.parametrize(
    ("hardware", "free", "cached", "level", "words"),
    [
        ({}, 2 * CACHED, 0, OK, "off; decoded, 2975 training frames take 25.0 GB of 49.9 GB free here"),
        ({}, CACHED // 2, 0, OK, "too much"),
        ({"frame_cache": "/cache"}, 2 * CACHED, 0, OK, "25.0 GB; 49.9 GB for it in /cache, 25.0 GB allowed"),
        ({"frame_cache": "/cache"}, CACHED // 2, 0, WARNING, "12.5 GB for it"),
        # Built already.
        ({"frame_cache": "/cache"}, 1000, CACHED, OK, "25.0 GB for it"),
        ({"frame_cache": "/cache", "frame_cache_gb": 12.5}, 2 * CACHED, 0, OK, "50 % of the frames"),
    ],
)
def test_frame_cache_is_held_against_the_disk(
    hardware: Dict[str, Any], free: int, cached: int, level: str, words: str
) -> None:
    synthetic = {"train": FRAMES, "val": 2, "height": 1024, "width": 2048}
    plan = plan_of({**CONFIG, "hardware": hardware, "synthetic": synthetic})
    finding = run_checks.check_frame_cache(free, cached, plan)
    assert finding.level == level
    assert words in finding.found


def test_frame_cache_of_packed_images_is_not_estimated(tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit_trainvaltest.zip").write_bytes(b"x")
    assert "not estimated" in run_checks.check_frame_cache(10**9, 0, plan_of(dataset=str(tmp_path))).found


def test_memory_is_held_against_workers_and_batch() -> None:
    plan = plan_of()
    needed = plan.batches_in_flight_bytes() + 8 * 2_000_000_000
    assert run_checks.check_memory(needed, plan).level == OK
    assert run_checks.check_memory(needed - 1, plan).level == WARNING


@pytest.mark.parametrize(("free", "level"), [(99, PROBLEM), (100, WARNING), (199, WARNING), (200, OK)])
def test_disk_is_held_against_the_sum_of_what_is_written(free: int, level: str) -> None:
    finding = run_checks.check_disk(free, {"checkpoints": 60, "results": 40}, "/results")
    assert finding.level == level
    assert "checkpoints" in finding.found


def test_folder_that_cannot_be_written_is_a_problem_with_its_reason(tmp_path: Path) -> None:
    assert facts.write_error(tmp_path / "not" / "there" / "yet") is None
    assert list(tmp_path.iterdir()) == []
    reason = facts.write_error(Path("/proc/stdc"))
    assert reason
    assert run_checks.check_writable(reason, "/proc/stdc").level == PROBLEM


# ---- trials


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, OK),
        ({"difference": 1e-4}, OK),
        ({"difference": 0.2}, PROBLEM),
        ({"pixels": 99}, PROBLEM),
        ({"finite": False}, PROBLEM),
    ],
)
def test_evaluation_is_judged_by_pixels_and_by_the_cpus_logits(changes: Dict[str, Any], level: str) -> None:
    answer = {"pixels": 100, "expected": 100, "finite": True, "difference": None, "seconds": 1.0, **changes}
    assert run_checks.check_evaluation(answer).level == level


def test_memory_trial_warns_before_it_is_too_late() -> None:
    answer = {"what": "image", "peak": 50, "total": 100, "seconds": 1.0}
    assert run_checks.check_probe_memory("memory", answer).level == OK
    assert run_checks.check_probe_memory("memory", {**answer, "peak": 95}).level == WARNING
    assert run_checks.check_probe_memory("memory", {**answer, "peak": None, "total": None}).level == OK
    assert run_checks.check_probe_memory("memory", {"skipped": "too large"}).level == WARNING
    assert run_checks.check_probe_memory("memory", {"error": "ResourceExhaustedError: Out of memory"}).level == PROBLEM


def test_all_reduce_is_judged_by_its_sum() -> None:
    answer = {"ranks": 2, "bytes": 4, "seconds": 0.1, "correct": True, "sync_batch_norm": "by Paddle's kernel"}
    assert "batch norm is synchronized by Paddle's kernel" in run_checks.check_ranks(answer).found
    assert run_checks.check_ranks(answer).level == OK
    assert run_checks.check_ranks({**answer, "correct": False}).level == PROBLEM
    assert run_checks.check_ranks({"skipped": "one device"}).level == OK
    assert run_checks.check_ranks({"error": "no end within 120 s"}).level == PROBLEM


def test_question_that_hangs_ends_at_its_limit_with_all_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    answer = commands.ask(["sh", "-c", f"echo started; sleep 60 & echo $! > {pid_file}; wait"], limit_s=0.5)
    assert answer.code is None
    assert answer.output == "started\n"
    assert time.monotonic() - started < 5
    grandchild = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _is_running(grandchild):
        time.sleep(0.02)
    assert not _is_running(grandchild)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_question_to_a_program_that_is_not_there_is_answered() -> None:
    answer = commands.ask(["/no/such/program"], limit_s=1)
    assert answer.code == 127
    assert "/no/such/program" in answer.output


@pytest.mark.parametrize(
    ("program", "limit_s", "expected"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 60.0, "killed by signal 9"),
        ("print('half an answer'); raise SystemExit(3)", 60.0, "ended with code 3: half an answer"),
        ("import time; time.sleep(300)", 0.5, "no end within"),
    ],
)
def test_trial_that_crashes_or_hangs_is_a_finding_and_the_table_is_complete(
    tmp_path: Path, program: str, limit_s: float, expected: str
) -> None:
    script = tmp_path / "probe.py"
    script.write_text(program)
    said: List[str] = []
    settings = Settings(str(script), sys.executable, limit_s, said.append)
    findings = examine(plan_of(device="cpu", devices=1, folder=str(tmp_path)), settings)
    paddle = next(finding for finding in findings if finding.check == "paddle")
    assert paddle.level == PROBLEM
    assert expected in paddle.found
    assert {"driver", "/dev/shm", "disk", "results folder"} <= {finding.check for finding in findings}


def test_table_shows_the_mend_below_its_row() -> None:
    lines = table([Finding(OK, "disk", "enough"), Finding(PROBLEM, "driver", "none", "install one")])
    assert lines == ["ok       disk    enough", "problem  driver  none", "                 -> install one"]


# ---- the program


def test_doctor_examines_this_machine_within_a_minute(tmp_path: Path) -> None:
    report = tmp_path / "doctor.json"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run_program("doctor", "--device", "cpu", "--threads", 1, "--directory", tmp_path, "--json", report)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    # Seconds of the processor, of which others on this machine take nothing.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    findings = {finding["check"]: finding for finding in json.loads(report.read_text())["findings"]}
    trials = ("packages", "paddle", "two images evaluated", "evaluation memory", "training memory", "all-reduce")
    assert {name: findings[name]["level"] for name in trials} == dict.fromkeys(trials, OK)
    assert "2 ranks" in findings["all-reduce"]["found"]
    # mini recipe: two images of its validation size
    assert "65536 pixels counted" in findings["two images evaluated"]["found"]
    assert "0 problems" in result.stderr
    assert "forecast: comparable with none of 6 published figures of STDC1-Seg" in result.stderr


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has the GPU that the test misses")
def test_doctor_on_a_machine_without_the_device_ends_with_2_and_the_mend(tmp_path: Path) -> None:
    result = run_program("doctor", "--device", "gpu", "--devices", 8, "--directory", tmp_path)
    assert_refused(result, "devices", "0 x gpu visible, 8 asked for", "--device cpu", "problems: ")


def test_doctor_refuses_a_recipe_that_is_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    assert_refused(run_program("doctor", "--config", recipe), str(recipe), "no such file")
    recipe.write_text("train: [")
    assert_refused(run_program("doctor", "--config", recipe), str(recipe), "not readable as YAML")
    recipe.write_text("- 1")
    assert_refused(run_program("doctor", "--config", recipe), str(recipe), "found list")


def test_workflow_interpreter_without_snakemake_is_a_problem() -> None:
    answer = facts.workflow_python(sys.executable)
    if os.environ.get("STDC_SNAKEMAKE_PYTHON") == sys.executable:
        pytest.skip("the tests run in Snakemake's own interpreter")
    assert answer is not None
    assert "No module named 'snakemake'" in answer["error"]
    assert software_checks.check_workflow_python(answer).level == PROBLEM


# ---- what a build of Paddle needs of a GPU and of its libraries


@pytest.mark.parametrize(
    ("version", "capability", "runs"),
    [
        ("2.6.2", (6, 0), False),
        ("2.6.2", (6, 1), True),
        ("2.6.2", (7, 2), True),
        ("2.6.2", (8, 0), True),
        # Ada runs what was compiled for Ampere's 8.6, Hopper and Blackwell do not.
        ("2.6.2", (8, 9), True),
        ("2.6.2", (9, 0), False),
        ("2.6.2", (12, 0), False),
        ("2.4.2", (3, 7), True),
        ("2.4.2", (8, 0), False),
        # Nobody has counted these.
        ("3.3.1", (9, 0), True),
    ],
)
def test_capability_is_held_against_the_code_in_the_wheel(
    version: str, capability: Tuple[int, int], runs: bool
) -> None:
    finding = device_checks.check_capability(version, [capability])
    assert finding.level == (OK if runs else PROBLEM)
    assert ("Paddle 3" in finding.fix) == (not runs and capability >= (9, 0))


def test_one_unfit_device_of_several_is_named() -> None:
    finding = device_checks.check_capability("2.6.2", [(8, 0), (9, 0)])
    assert finding.level == PROBLEM and finding.found == "9.0: paddle 2.6.2 has no code for it"


def test_libraries_that_the_loader_does_not_find_are_named() -> None:
    assert libraries.missing(["libc.so.6"]) == []
    (problem,) = libraries.missing(["libno-such-library.so"])
    assert problem.startswith("libno-such-library.so (")
    finding = device_checks.check_libraries([problem])
    assert finding.level == PROBLEM and "link_libraries.sh" in finding.fix
    assert device_checks.check_libraries([]).level == OK


def test_paddle_3_is_asked_for_no_libraries_since_it_brings_its_own() -> None:
    assert "libcudnn.so" in libraries.opened_by("2.6.2")
    assert libraries.opened_by("3.3.1") == ()


def test_devices_named_by_the_environment_are_those_the_plan_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STDC_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert plan_of(devices=None).devices == 2
    assert facts.present_devices("cpu") == 0
