"""How many devices the device profiles ask for, rendered as Snakemake renders them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Dict

import pytest
import yaml
from snakemake_runs import REPOSITORY, Workflow

from stdc.errors import InputError
from stdc.machine.environment import asked_devices, cuda_devices

_RENDER = """
import json, sys, yte
with open(sys.argv[1]) as handle:
    profile = yte.process_yaml(handle, require_use_yte=True)
print(json.dumps(profile))
"""


def render(profile: str, environment: Dict[str, str]) -> subprocess.CompletedProcess[str]:
    python = Workflow(REPOSITORY, REPOSITORY).command()[0]
    names = ("STDC_DEVICES", "STDC_DEVICE", "CUDA_VISIBLE_DEVICES", "ILUVATAR_GPU_VISIBLE_DEVICES")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    command = [python, "-c", _RENDER, str(REPOSITORY / "profiles" / profile / "config.yaml")]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=False)


def devices(profile: str, environment: Dict[str, str]) -> int:
    rendered = json.loads(render(profile, environment).stdout)
    train = rendered["set-resources"]["train"]
    assert train["devices"] == train["gpu"] <= rendered["resources"]["gpu"]
    return int(train["devices"])


@pytest.mark.parametrize("profile", ["cuda", "corex"])
@pytest.mark.parametrize(("asked", "side_by_side"), [("1", 4), ("2", 2), ("4", 1), ("", 1)])
def test_trainings_on_fewer_devices_than_there_are_run_side_by_side(
    profile: str, asked: str, side_by_side: int
) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "STDC_DEVICES": asked}
    rendered = json.loads(render(profile, environment).stdout)
    total, rules = rendered["resources"]["gpu"], rendered["set-resources"]
    assert total // rules["train"]["gpu"] == side_by_side
    assert rules["measure_speed"]["gpu"] == total, "nothing else runs while a speed is measured"


@pytest.mark.parametrize("profile", ["cuda", "corex"])
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STDC_DEVICES": "4", "CUDA_VISIBLE_DEVICES": "0,1"}, 4),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "3"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937,GPU-1c3d"}, 2),
        # A process sees one MIG instance, and what stands behind an invalid entry is hidden.
        ({"CUDA_VISIBLE_DEVICES": "MIG-GPU-8932f937/1/0,MIG-GPU-8932f937/2/0"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, 1),
        # None: the program says that it sees none.
        ({"CUDA_VISIBLE_DEVICES": ""}, 1),
        ({"CUDA_VISIBLE_DEVICES": "junk"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,0"}, 1),
        ({"STDC_DEVICES": "", "CUDA_VISIBLE_DEVICES": "0,1,2"}, 3),
    ],
    ids=lambda value: str(value),
)
def test_profile_asks_for_the_devices_that_are_visible(
    profile: str, environment: Dict[str, str], expected: int
) -> None:
    assert devices(profile, environment) == expected
    # A profile cannot import `stdc`, so it counts by lines of its own; the programs count the same.
    counted = asked_devices(environment) or max(1, cuda_devices(environment["CUDA_VISIBLE_DEVICES"]) or 0)
    assert counted == expected


def test_device_profiles_count_by_the_same_lines() -> None:
    """All but where each finds its devices."""
    cuda, corex = (
        yaml.safe_load((REPOSITORY / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))
        for name in ("cuda", "corex")
    )
    own = ("named = ", "present = ", "device = ")
    lines = [[line for line in one.pop("__definitions__") if not line.startswith(own)] for one in (cuda, corex)]
    assert lines[0] == lines[1] and any("def visible" in line for line in lines[0])
    assert json.loads(json.dumps(corex).replace('"?device"', '"gpu"')) == cuda


@pytest.mark.parametrize("profile", ["cuda", "corex"])
@pytest.mark.parametrize("asked", ["four", "0", "-1", "1.5", " "])
def test_number_of_devices_that_is_none_is_one_line(profile: str, asked: str) -> None:
    result = render(profile, {"STDC_DEVICES": asked})
    assert result.returncode == 2
    with pytest.raises(InputError) as refused:
        asked_devices({"STDC_DEVICES": asked})
    assert result.stderr == f"stdc: {refused.value}\n"
    assert str(refused.value) == f"STDC_DEVICES: {asked!r}; a number of devices, at least 1, is expected"


def test_profile_of_a_node_without_devices_asks_for_those_of_the_published_recipe() -> None:
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has the devices that the test misses")
    assert devices("cuda", {}) == 8


def test_corex_profile_obeys_the_variable_of_the_plug_in() -> None:
    assert devices("corex", {"ILUVATAR_GPU_VISIBLE_DEVICES": "0,1"}) == 2
