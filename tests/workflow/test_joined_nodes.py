"""Two containers' first processes on loopback, as two pods of a Job: one runs the workflow, one joins its training."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Dict, Iterator, List

import pytest
from snakemake_runs import REPOSITORY, TINY, Workflow

LIMIT_S = 240.0
HARDWARE = "hardware={nodes: 2, device: cpu, devices: 1, threads: 1, workers: 0}"


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


class Pods:
    """Pods of one Job that share a folder: the images' entrypoint with the environment that Kubernetes would give.

    Args:
        tools: folder for a `snakemake` as the images have it on PATH.
    """

    def __init__(self, workflow: Workflow, tools: Path) -> None:
        self.place = workflow.place
        self._entrypoint = str(REPOSITORY / "docker" / "entrypoint.sh")
        self._snakemake = tools / "snakemake"
        self._snakemake.write_text(f'#!/bin/bash\nexec "{workflow.command()[0]}" -m snakemake "$@"\n')
        self._snakemake.chmod(0o755)
        self._environment = {
            **workflow.environment(),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "STDC_DIRECTORY": str(self.place),
            "PADDLE_MASTER": f"127.0.0.1:{free_port()}",
            "PADDLE_NNODES": "2",
            "PADDLE_JOB_ID": "uid-of-the-job",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        self.started: List[subprocess.Popen[str]] = []

    def start(self, index: int) -> subprocess.Popen[str]:
        pod = subprocess.Popen(
            [
                str(REPOSITORY / "docker" / "entrypoint.sh"),
                "--cores",
                "2",
                "--configfile",
                str(TINY),
                "--config",
                HARDWARE,
            ],
            cwd=REPOSITORY,
            env={**self._environment, "JOB_COMPLETION_INDEX": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(pod)
        return pod


@pytest.fixture
def pods(workflow: Workflow, tmp_path: Path) -> Iterator[Pods]:
    made = Pods(workflow, tmp_path)
    yield made
    for pod in made.started:
        if pod.poll() is None:
            os.killpg(pod.pid, signal.SIGKILL)
        pod.wait()


def weights(place: Path) -> Dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.glob("results/*/seed0/*.pdparams")
    }


def test_two_pods_give_the_weights_of_two_ranks_on_one_machine(pods: Pods, tmp_path: Path) -> None:
    """The second pod comes first, is drained while it waits, and comes again; both end with the workflow's code."""
    early = pods.start(1)
    time.sleep(3)
    early.terminate()
    text = early.communicate(timeout=30)[0]
    assert early.returncode == 75, text
    other, first = pods.start(1), pods.start(0)
    told = first.communicate(timeout=LIMIT_S)[0]
    joined = other.communicate(timeout=30)[0]
    assert (first.returncode, other.returncode) == (0, 0), told + joined
    assert "joins the training" in joined and "Traceback" not in joined
    assert not list(pods.place.glob("runs/.nodes-*.training"))
    # One machine with two devices.
    alone = Workflow(REPOSITORY, tmp_path / "alone")
    alone.place.mkdir()
    devices = "hardware={device: cpu, devices: 2, threads: 1, workers: 0}"
    outcome = alone("--cores", 2, "--configfile", TINY, "--until", "train", "--config", devices)
    assert outcome.returncode == 0, outcome.text
    assert weights(pods.place) == weights(alone.place) != {}
