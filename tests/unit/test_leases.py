"""Devices shared out among processes of one machine: real locks on real files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from stdc.errors import RunError
from stdc.machine import environment, leases
from stdc.machine.leases import held_by_others, leased

REPOSITORY = Path(__file__).resolve().parents[2]


def variables(folder: Path, visible: str = "0,1", **more: str) -> Dict[str, str]:
    return {"STDC_LEASES": str(folder / "leases"), "CUDA_VISIBLE_DEVICES": visible, **more}


def quiet(line: str) -> None:
    pass


def refused(expected: str, *arguments: Any, **settings: Any) -> None:
    with pytest.raises(RunError, match=expected), leased(*arguments, poll_s=0.01, **settings):
        pass


def test_two_trainings_side_by_side_hold_different_devices(tmp_path: Path) -> None:
    first, second = variables(tmp_path), variables(tmp_path)
    with leased("gpu", 1, quiet, environment=first), leased("gpu", 1, quiet, environment=second):
        assert (first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]) == ("0", "1")
        assert leases.current(first) == {"devices": ["0"], "of": 2, "others": 0}
        assert leases.current(second) == {"devices": ["1"], "of": 2, "others": 1}
        assert held_by_others("gpu", first) == 1
        assert held_by_others("gpu", variables(tmp_path)) == 2
    assert first == second == variables(tmp_path), "what was hidden is in sight again"
    assert held_by_others("gpu", first) == 0


def test_what_a_user_hides_stays_hidden(tmp_path: Path) -> None:
    first, second = variables(tmp_path, "5,3"), variables(tmp_path, "3,7")
    with leased("gpu", 1, quiet, environment=first):
        assert first["CUDA_VISIBLE_DEVICES"] == "5"
        with leased("gpu", 1, quiet, environment=second):
            assert second["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_training_on_several_devices_takes_all_of_them_or_waits(tmp_path: Path) -> None:
    one, three = variables(tmp_path, "0,1,2"), variables(tmp_path, "0,1,2")
    said: List[str] = []
    with leased("gpu", 1, quiet, environment=one):
        expected = r"devices: 3 of 3 needed, but for 0 s they were held by process \d+ since"
        refused(expected, "gpu", 3, said.append, environment=three, limit_s=0.05)
        assert [line.partition(";")[0] for line in said] == ["waiting for 3 of 3 devices, 0 s at most"]
        two = variables(tmp_path, "0,1,2")
        with leased("gpu", 2, quiet, environment=two):
            assert two["CUDA_VISIBLE_DEVICES"] == "1,2"
    with leased("gpu", 3, quiet, environment=three):
        assert three["CUDA_VISIBLE_DEVICES"] == "0,1,2"


_HOLD = """
import sys, time
from stdc.machine.leases import leased
with leased("gpu", 1, print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_frees_its_device(tmp_path: Path) -> None:
    own = variables(tmp_path, "0")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **own},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        refused(f"held by process {holder.pid} since", "gpu", 1, quiet, environment=own, limit_s=0.05)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    started = time.monotonic()
    with leased("gpu", 1, quiet, environment=own, limit_s=5, poll_s=0.01):
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("device", "more"),
    [
        ("cpu", {}),
        # A scheduler gave exactly what was asked for.
        ("gpu", {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7"}),
        # None there: Paddle says so in its words.
        ("gpu", {"CUDA_VISIBLE_DEVICES": ""}),
        ("gpu", {"CUDA_VISIBLE_DEVICES": "junk"}),
        # A lease on the first one would make a device visible that CUDA hides.
        ("gpu", {"CUDA_VISIBLE_DEVICES": "0,0"}),
        ("gpu", {"STDC_LEASES": "0"}),
    ],
)
def test_no_lease_is_taken_where_there_is_nothing_to_share(tmp_path: Path, device: str, more: Dict[str, str]) -> None:
    own = {**variables(tmp_path), **more}
    before = dict(own)
    with leased(device, 1, quiet, environment=own):
        assert own == before
        assert leases.current(own) is None
    assert not (tmp_path / "leases").exists()


def test_jobs_of_a_scheduler_have_leases_of_their_own(tmp_path: Path) -> None:
    """Inside a job that sees two devices of eight, both are numbered from 0."""
    one, other = variables(tmp_path, "0,1", SLURM_JOB_ID="7"), variables(tmp_path, "0,1", SLURM_JOB_ID="8")
    with leased("gpu", 1, quiet, environment=one), leased("gpu", 1, quiet, environment=other):
        assert (one["CUDA_VISIBLE_DEVICES"], other["CUDA_VISIBLE_DEVICES"]) == ("0", "0")
        assert held_by_others("gpu", one) == 1


def test_instances_of_a_divided_device_are_leased_one_by_one(tmp_path: Path) -> None:
    visible = "MIG-GPU-8932f937/1/0,MIG-GPU-8932f937/2/0"
    one, other = variables(tmp_path, visible), variables(tmp_path, visible)
    with leased("gpu", 1, quiet, environment=one), leased("gpu", 1, quiet, environment=other):
        assert f"{one['CUDA_VISIBLE_DEVICES']},{other['CUDA_VISIBLE_DEVICES']}" == visible


def test_the_plug_in_is_told_by_its_own_variable_and_by_the_one_of_its_runtime(tmp_path: Path) -> None:
    own = {"STDC_LEASES": str(tmp_path / "leases"), "ILUVATAR_GPU_VISIBLE_DEVICES": "4,5"}
    with leased("iluvatar_gpu", 1, quiet, environment=own):
        assert own["ILUVATAR_GPU_VISIBLE_DEVICES"] == own["CUDA_VISIBLE_DEVICES"] == "4"
    assert "CUDA_VISIBLE_DEVICES" not in own


def test_a_process_that_begins_again_chooses_among_all_devices_anew(tmp_path: Path) -> None:
    """Its variables outlive it, its locks do not."""
    own = variables(tmp_path)
    holding = leased("gpu", 1, quiet, environment=own)
    holding.__enter__()
    left = dict(own)
    holding.__exit__(None, None, None)
    with leased("gpu", 1, quiet, environment=variables(tmp_path)), leased("gpu", 1, quiet, environment=left):
        assert left["CUDA_VISIBLE_DEVICES"] == "1"
        assert leases.current(left) == {"devices": ["1"], "of": 2, "others": 1}


def test_a_folder_that_cannot_be_used_is_told_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    own = {**variables(tmp_path), "STDC_LEASES": str(tmp_path / "file" / "leases")}
    refused(
        r"leases of devices lie there\. Name another folder by the variable STDC_LEASES",
        "gpu",
        1,
        quiet,
        environment=own,
    )


def test_ranks_inherit_what_their_watcher_holds() -> None:
    assert "STDC_LEASE" in environment.of_ranks({"STDC_LEASE": "x"}, "gpu")
