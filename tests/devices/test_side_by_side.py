"""Trainings of a sweep side by side on a machine with two devices, which are a stand-in's: each computes on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest
from snakemake_runs import REPOSITORY, TINY, Workflow
from trial import read, sha256

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]

DEVICE = "iluvatar_gpu"
SWEEP = "name: study\noverrides:\n  base: {}\n  fast: {train: {base_lr: 0.02}}\n"


def trained(place: Path, *arguments: object) -> Dict[str, Path]:
    """Run the trainings of the sweep; the folder of each variant's."""
    place.mkdir()
    (place / "sweep.yaml").write_text(SWEEP)
    words = ("--configfile", TINY, "--config", "sweep=sweep.yaml", "--until", "train")
    outcome = Workflow(REPOSITORY, place)("--cores", 16, *arguments, *words, timeout_s=600)
    assert outcome.returncode == 0, outcome.text[-6000:]
    return {name: place / "results" / "study" / name / "seed0" for name in ("base", "fast")}


def test_two_trainings_of_a_sweep_share_a_machine_of_two_devices(
    plugin: Dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUSTOM_DEVICE_ROOT", raising=False)
    expected = trained(tmp_path / "cpu")
    users = tmp_path / "users"
    machine = {"STDC_DEVICE": DEVICE, "STDC_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    machine.update({"STDC_LEASES": str(tmp_path / "leases"), "DOUBLE_USERS": str(users)})
    for name, value in {**plugin, **machine}.items():
        monkeypatch.setenv(name, value)
    found = trained(
        tmp_path / "devices", "--profile", REPOSITORY / "profiles" / "corex", "--set-resources", "train:workers=0"
    )
    leases = [read(folder / "provenance.json")["lease"] for folder in found.values()]
    # Both held a device at a time: who comes alone takes the first one.
    assert sorted(lease["devices"] for lease in leases) == [["0"], ["1"]]
    assert sorted(lease["others"] for lease in leases) == [0, 1]
    # What the programs say of themselves is what the devices saw.
    assert sorted(line.split()[0] for line in users.read_text().splitlines()) == ["0", "1"]
    for name, folder in found.items():
        assert read(folder / "provenance.json")["device"]["kind"] == DEVICE
        assert sha256(folder / "model.pdparams") == sha256(expected[name] / "model.pdparams")
