"""Two launchers on loopback, as on two nodes: the bytes of two ranks on one node, and accidents that end in words."""

from __future__ import annotations

import signal
import socket
from typing import Any, Dict, List

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


def start_nodes(trial: TrainingTrial, name: str, *options: object, numbers: List[int]) -> List[Family]:
    """One program per node, each with one device, as a PaddleJob or srun starts them."""
    (trial.folder / name).mkdir(exist_ok=True)
    meeting = {"PADDLE_MASTER": f"127.0.0.1:{free_port()}", "PADDLE_NNODES": "2", "GLOO_SOCKET_IFNAME": "lo"}
    return [
        Family(
            [*trial.command(name, 0, 1), *map(str, options)],
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
