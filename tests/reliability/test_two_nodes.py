"""Two launchers, as on two nodes: the bytes of two ranks on one node, and accidents that end in words.

On loopback, and in two network namespaces joined by a virtual cable, where the host's name leads nowhere.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import Any, Dict, Iterator, List, Sequence

import pytest
from families import Family, wait_until
from trials import TrainingTrial

LIMIT_S = 150.0


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> TrainingTrial:
    return TrainingTrial(tmp_path_factory.mktemp("trial"), {"iterations": 12, "eval_interval": 6, "save_interval": 2})


@pytest.fixture(scope="module")
def one_node(trial: TrainingTrial) -> Dict[str, Any]:
    return trial.finish("one-node", devices=2)


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def start_nodes(
    trial: TrainingTrial,
    name: str,
    *options: object,
    numbers: List[int],
    master: str = "127.0.0.1",
    prefixes: Sequence[List[str]] = ([], []),
) -> List[Family]:
    """One program per node, each with one device, as a PaddleJob or srun starts them.

    Args:
        options: of the program.
        numbers: of the nodes that are started.
        master: address of node 0.
        prefixes: of the command on each node.
    """
    (trial.folder / name).mkdir(exist_ok=True)
    meeting = {"PADDLE_MASTER": f"{master}:{free_port()}", "PADDLE_NNODES": "2"}
    return [
        Family(
            [*prefixes[number], *trial.command(name, 0, 1), *map(str, options)],
            trial.folder,
            trial.folder / name / f"said.{number}",
            {**meeting, "PADDLE_RANK": str(number)},
        )
        for number in numbers
    ]


def end(families: List[Family], limit_s: float = LIMIT_S) -> List[int]:
    try:
        return [family.wait(limit_s) for family in families]
    finally:
        for family in families:
            family.end()


def test_two_nodes_give_the_bytes_of_two_ranks_on_one_node(trial: TrainingTrial, one_node: Dict[str, Any]) -> None:
    nodes = start_nodes(trial, "two", numbers=[0, 1])
    assert end(nodes) == [0, 0], [node.text()[-2000:] for node in nodes]
    assert trial.results("two") == one_node
    assert len(list((trial.folder / "two" / "runs").iterdir())) == 1


def test_killed_node_ends_the_other_in_words_and_the_run_goes_on_to_the_same_bytes(
    trial: TrainingTrial, one_node: Dict[str, Any]
) -> None:
    nodes = start_nodes(trial, "killed", numbers=[0, 1])
    try:
        wait_until(lambda: trial.saved("killed") > 0, LIMIT_S, "a checkpoint")
        for member in nodes[1].members():
            nodes[1].kill(member.pid, signal.SIGKILL)
        assert nodes[0].wait(LIMIT_S) == 1
        said = nodes[0].text()
        assert "Traceback" not in said and ("failed" in said or "died" in said or "no sign of life" in said)
        assert nodes[0].survivors() == []
    finally:
        for node in nodes:
            node.end()
    assert end(start_nodes(trial, "killed", numbers=[0, 1])) == [0, 0]
    assert trial.results("killed") == one_node


def test_node_that_never_comes_ends_the_wait_in_words(trial: TrainingTrial) -> None:
    for number, missing in ((0, "node 1"), (1, "node 0")):
        (node,) = start_nodes(trial, f"alone{number}", "--rendezvous-limit", 2, numbers=[number])
        assert end([node]) == [1]
        assert f"{missing} has not come within 2 s" in node.text() and "Traceback" not in node.text()


def test_number_of_nodes_that_is_not_the_jobs_is_wrong_input(trial: TrainingTrial) -> None:
    (node,) = start_nodes(trial, "wrong", "--nodes", 1, numbers=[0])
    assert end([node]) == [2]
    assert "hardware.nodes: 1, but this job has 2 (PADDLE_NNODES)" in node.text()


class Cable:
    """Two network namespaces and a virtual cable between them; nothing of it outlives its two processes."""

    addresses = ("10.77.0.1", "10.77.0.2")

    def __init__(self) -> None:
        # Not of the family's session: a process in each namespace is what keeps it.
        self._keepers = [subprocess.Popen(["unshare", "--net", "sleep", "3600"]) for _ in self.addresses]
        deadline = time.monotonic() + 20
        ours = os.readlink("/proc/self/ns/net")
        while any(os.readlink(f"/proc/{keeper.pid}/ns/net") == ours for keeper in self._keepers):
            assert time.monotonic() < deadline, "no network namespaces"
            time.sleep(0.05)
        self.run(0, "ip link add cable0 type veth peer name cable1")
        self.run(0, f"ip link set cable1 netns {self._keepers[1].pid}")
        for number, address in enumerate(self.addresses):
            self.run(number, "ip link set lo up")
            self.run(number, f"ip address add {address}/24 dev cable{number}")
            self.plug(number, True)

    def prefix(self, number: int) -> List[str]:
        """What starts a command in a namespace."""
        return ["nsenter", f"--target={self._keepers[number].pid}", "--net", "--"]

    def run(self, number: int, command: str) -> None:
        subprocess.run([*self.prefix(number), *command.split()], check=True, capture_output=True, timeout=30)

    def plug(self, number: int, on: bool) -> None:
        """Plug the cable in at one end, or pull it out."""
        self.run(number, f"ip link set cable{number} {'up' if on else 'down'}")

    def end(self) -> None:
        for keeper in self._keepers:
            keeper.kill()
            keeper.wait()

    def start(self, trial: TrainingTrial, name: str, *options: object) -> List[Family]:
        """Start a node at each end."""
        prefixes = [self.prefix(0), self.prefix(1)]
        return start_nodes(trial, name, *options, numbers=[0, 1], master=self.addresses[0], prefixes=prefixes)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("NO NETWORK NAMESPACES: unshare, nsenter or ip is missing (util-linux, iproute2)")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=30, check=False).returncode != 0:
        pytest.skip("NO NETWORK NAMESPACES: this user may not make them (root with CAP_SYS_ADMIN may)")
    laid = Cable()
    try:
        yield laid
    finally:
        laid.end()


def test_two_networks_joined_by_a_cable_give_the_bytes_of_one_node_also_after_it_was_pulled_out(
    trial: TrainingTrial, one_node: Dict[str, Any], cable: Cable
) -> None:
    nodes = cable.start(trial, "cable", "--step-limit", 20)
    try:
        wait_until(lambda: trial.saved("cable") > 0, LIMIT_S, "a checkpoint")
        cable.plug(1, False)
        assert [node.wait(LIMIT_S) for node in nodes] == [1, 1]
        for node in nodes:
            assert "Traceback" not in node.text()
            assert "failed" in node.text() or "died" in node.text() or "no sign of life" in node.text()
            assert node.survivors() == []
    finally:
        for node in nodes:
            node.end()
    assert 0 < trial.saved("cable") < 12
    cable.plug(1, True)
    again = cable.start(trial, "cable")
    assert end(again) == [0, 0], [node.text()[-2000:] for node in again]
    assert trial.results("cable") == one_node


def test_node_that_cannot_be_reached_ends_the_wait_in_words_within_the_limit(
    trial: TrainingTrial, cable: Cable
) -> None:
    cable.plug(1, False)
    started = time.monotonic()
    nodes = cable.start(trial, "unplugged", "--rendezvous-limit", 15)
    assert end(nodes) == [1, 1]
    assert time.monotonic() - started < 120
    for node in nodes:
        assert "Traceback" not in node.text()
        assert "no sign of life" in node.text() or "failed" in node.text() or "died" in node.text()
