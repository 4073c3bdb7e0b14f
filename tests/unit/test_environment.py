"""Which variables reach ranks and provenance, and what they say about devices."""

from __future__ import annotations

from typing import Dict, Optional

import pytest

from stdc.errors import InputError
from stdc.machine import environment

#: Each begins like the name of a setting.
SECRETS = (
    "NVIDIA_API_KEY", "NGC_API_KEY", "STDC_TOKEN", "PYTHON_KEYRING_PASSWORD", "IXIA_PASSWORD", "LC_TOKEN",
    "FLAGS_secret", "CUDA_TOKEN", "NCCL_TOKEN", "GLOO_TOKEN", "OMP_TOKEN", "MKL_TOKEN", "OPENBLAS_TOKEN",
    "PADDLE_TOKEN", "PADDLE_XCCL_TOKEN", "PADDLE_DISTRI_TOKEN", "PROTOCOL_BUFFERS_TOKEN", "ILUVATAR_TOKEN",
    "AWS_SECRET_ACCESS_KEY", "http_proxy",
)  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "gpu", "iluvatar_gpu"])
def test_ranks_inherit_no_secret_that_is_named_like_a_setting(device: str) -> None:
    given = dict.fromkeys(SECRETS, "a secret")
    assert "a secret" not in environment.of_ranks(given, device).values()
    assert environment.recorded(given) == {}


def test_no_allowed_name_sounds_like_a_secret() -> None:
    words = ("TOKEN", "KEY", "SECRET", "PASSWORD", "CREDENTIAL", "PROXY")
    assert [name for name in environment.INHERITED if any(word in name.upper() for word in words)] == []


@pytest.mark.parametrize(
    "name",
    [
        "CUSTOM_DEVICE_ROOT", "PADDLE_PG_TIMEOUT", "CUBLAS_WORKSPACE_CONFIG", "ILUVATAR_VISIBLE_DEVICES",
        "IX_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "NCCL_SOCKET_IFNAME", "LD_LIBRARY_PATH",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "FLAGS_cudnn_deterministic", "OMP_NUM_THREADS", "STDC_COMMIT",
    ],
)  # fmt: skip
def test_settings_reach_the_ranks_of_an_accelerator(name: str) -> None:
    assert environment.of_ranks({name: "1"}, "iluvatar_gpu") == {name: "1"}


def test_flags_of_every_recipe_reach_ranks_and_provenance() -> None:
    from stdc import recipe
    from stdc.machine import devices
    from stdc.presets import PRESETS

    for preset in PRESETS.values():
        flags = {f"FLAGS_{name}" for name in devices.kernel_flags(recipe.part_of(recipe.Kernels, preset))}
        assert flags and flags <= environment.INHERITED
        assert flags <= set(environment.RESULTS)


def test_provenance_shows_what_changes_a_result_and_no_path() -> None:
    given = {"HOME": "/home/ada", "LD_LIBRARY_PATH": "/home/ada/lib", "OMP_NUM_THREADS": "3", "FLAGS_nccl_dir": "/x"}
    assert environment.recorded(given) == {"OMP_NUM_THREADS": "3"}


def test_ranks_on_the_cpu_see_no_accelerator_and_no_plug_in() -> None:
    given = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "CUSTOM_DEVICE_ROOT": "/opt/plugins",
        "PADDLE_DISTRI_BACKEND": "xccl",
        "PADDLE_XCCL_BACKEND": "iluvatar_gpu",
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    assert environment.of_ranks(given, "cpu") == {
        "CUDA_VISIBLE_DEVICES": "all",
        "CUSTOM_DEVICE_ROOT": "",
        "PADDLE_DISTRI_BACKEND": "gloo",
        "GLOO_SOCKET_IFNAME": "eth0",
    }


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        (None, None),
        ("", 0),
        ("0", 1),
        ("0,2, 5", 3),
        ("-1", 0),
        # CUDA ends the list at the first entry that is no device.
        ("0,-1,1", 1),
        ("NoDevFiles", 0),
        ("all", 0),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1c3d", 2),
        # Of several MIG instances a process sees the first.
        ("MIG-GPU-8932f937/1/0,MIG-GPU-8932f937/2/0", 1),
        # A device that is named twice hides all.
        ("0,0", 0),
        ("0,1,0", 0),
        ("junk", 0),
    ],
)
def test_cuda_devices_are_counted_by_cudas_rules(visible: Optional[str], count: Optional[int]) -> None:
    assert environment.cuda_devices(visible) == count


def test_devices_that_the_user_asks_for_are_a_number() -> None:
    assert environment.asked_devices({}) is None and environment.asked_devices({"STDC_DEVICES": ""}) is None
    assert environment.asked_devices({"STDC_DEVICES": "4"}) == 4
    for text in ("four", "0", "-1", "1.5", " "):
        with pytest.raises(InputError, match="STDC_DEVICES: "):
            environment.asked_devices({"STDC_DEVICES": text})


def test_names_stand_once() -> None:
    names: Dict[str, int] = {}
    for name in (*environment._PROCESS, *environment.RESULTS, *environment._CPU, *environment._PADDLE,
                 *environment._NVIDIA):  # fmt: skip
        names[name] = names.get(name, 0) + 1
    assert {name: count for name, count in names.items() if count > 1} == {}
