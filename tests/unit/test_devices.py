"""Devices as this process sees them: counts, refusals, precision."""

from __future__ import annotations

from typing import Tuple

import pytest

paddle = pytest.importorskip("paddle")

from stdc.errors import InputError  # noqa: E402
from stdc.machine import devices  # noqa: E402
from stdc.machine.architectures import check_capability  # noqa: E402


def test_more_devices_than_visible_are_refused_with_what_hides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count", lambda device: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    devices.check_count("gpu", 2)
    with pytest.raises(InputError, match=r"4 x gpu asked for, 2 visible \(CUDA_VISIBLE_DEVICES=0,1\).*STDC_DEVICES=2"):
        devices.check_count("gpu", 4)


def test_device_that_is_not_there_is_refused_with_the_way_out() -> None:
    if devices.count("iluvatar_gpu"):
        pytest.skip("this machine has the device that the test misses")
    with pytest.raises(InputError, match=r"sees none.*; run `doctor` for the reason, or use device cpu"):
        devices.select("iluvatar_gpu")


def test_the_cpu_takes_any_number_of_ranks() -> None:
    devices.check_count("cpu", 64)


def test_device_that_paddle_does_not_really_take_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "get_device", lambda: "iluvatar_gpu:0")
    with pytest.raises(RuntimeError, match="'cpu' was selected, but paddle computes on 'iluvatar_gpu:0'"):
        devices.select("cpu")


@pytest.mark.parametrize(
    ("capability", "override", "expected"),
    [
        ((7, 0), None, "float32"),
        ((8, 0), None, "float32 (tf32)"),
        ((8, 0), "0", "float32"),
        ((9, 0), "1", "float32 (tf32)"),
    ],
)
def test_precision_names_the_shortened_products_of_ampere(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], override: str | None, expected: str
) -> None:
    """The capability is made up: no device is asked. Paddle's own switches are on, or absent as in a build for CPUs."""
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: capability)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert devices.precision("gpu") == expected
    assert devices.precision("cpu") == "float32"


@pytest.mark.parametrize(
    ("version", "capability", "fits"),
    [
        ("2.6.2", (8, 6), True),
        # Code runs on later devices of the same major version.
        ("2.6.2", (8, 9), True),
        ("2.6.2", (9, 0), False),
        ("2.6.2", (6, 0), False),
        ("2.4.2", (8, 0), False),
        ("3.3.1", (9, 0), True),
        # The vendor's build for cards that call themselves CUDA devices.
        ("2.4.1+corex.3.1.0", (9, 9), True),
    ],
)
def test_device_that_paddle_has_no_code_for_is_refused(version: str, capability: Tuple[int, int], fits: bool) -> None:
    if fits:
        check_capability(version, capability)
        return
    with pytest.raises(InputError, match=rf"{capability[0]}\.{capability[1]}, for which paddle {version} has no code"):
        check_capability(version, capability)
