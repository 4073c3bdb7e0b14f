"""Which node of which job this is, from the variables of schedulers and launchers."""

from __future__ import annotations

from typing import Dict

import pytest

from stdc.errors import InputError
from stdc.machine.nodes import ONE_NODE, Nodes, Route, find_nodes, find_route

SLURM = {
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_JOB_ID": "41007",
    "SLURM_STEP_ID": "3",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
}
PADDLE = {"PADDLE_MASTER": "10.0.0.7:37777", "PADDLE_NNODES": "2", "PADDLE_JOB_ID": "train"}


@pytest.mark.parametrize("wanted", [None, 1])
def test_process_of_its_own_is_on_one_node(wanted: int) -> None:
    assert find_nodes(wanted, {}) == ONE_NODE
    assert find_nodes(wanted, {"SLURM_NNODES": "1", "SLURM_PROCID": "0"}) == ONE_NODE


def test_task_of_srun_knows_its_node_and_where_the_first_one_is() -> None:
    # 20000 + 41007 % 20000: jobs side by side meet at ports of their own.
    assert find_nodes(2, SLURM) == Nodes(2, 1, "10.0.0.7:21007", "slurm-41007.3-0")
    assert find_nodes(None, SLURM).count == 2
    # Started again by SLURM under the same number, as after a failed node: not what the first start has left.
    assert find_nodes(2, {**SLURM, "STDC_LAUNCH": "1764094"}).launch == "1764094"


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ({"PADDLE_RANK": "1"}, 1),
        ({"JOB_COMPLETION_INDEX": "0"}, 0),
        ({"POD_NAME": "stdc-worker-1"}, 1),
        ({"HOSTNAME": "stdc-worker-0"}, 0),
        ({"PADDLE_RANK": "0", "HOSTNAME": "node-1"}, 0),
    ],
)
def test_pods_of_a_paddle_job_and_of_an_indexed_job_know_their_node(where: Dict[str, str], number: int) -> None:
    assert find_nodes(None, {**PADDLE, **where}) == Nodes(2, number, "10.0.0.7:37777", "train")


@pytest.mark.parametrize(
    ("wanted", "environment", "words"),
    [
        (0, {}, "nodes: 0"),
        (2, {}, "hardware.nodes: 2, but this process is not part of a job of several nodes"),
        # One process on the first of two nodes: the other would idle in silence.
        (1, SLURM, "hardware.nodes: 1, but this job has 2 (SLURM_NNODES)"),
        (4, SLURM, "hardware.nodes: 4, but this job has 2 (SLURM_NNODES)"),
        (2, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, "SLURM runs 1 tasks of this step"),
        (1, {**PADDLE, "PADDLE_RANK": "0"}, "hardware.nodes: 1, but this job has 2 (PADDLE_NNODES)"),
        (2, PADDLE, "set PADDLE_RANK"),
        (2, {**PADDLE, "PADDLE_RANK": "2"}, "this is node 2 (PADDLE_RANK, "),
        (2, {**PADDLE, "PADDLE_RANK": "0", "PADDLE_MASTER": "auto"}, "PADDLE_MASTER: 'auto'"),
        (2, {**PADDLE, "PADDLE_NNODES": "2:4"}, "PADDLE_NNODES: '2:4'; a number of nodes is expected"),
    ],
)
def test_job_that_does_not_fit_is_refused_in_words(wanted: int, environment: Dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as error:
        find_nodes(wanted, environment)
    assert words in str(error.value)


def test_route_to_the_first_node_is_the_interface_that_leads_there() -> None:
    assert find_route("127.0.0.1:37777", {}) == Route("lo", "127.0.0.1")
    assert find_route("localhost:37777", {}) == Route("lo", "127.0.0.1")
    # Of another family of addresses, as an unknown name: left to Paddle.
    assert find_route("::1:37777", {}) is None


@pytest.mark.parametrize("variable", ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"])
def test_interface_that_the_user_names_is_taken(variable: str) -> None:
    assert find_route("192.0.2.1:37777", {variable: "lo"}) == Route("lo", "127.0.0.1")
    with pytest.raises(InputError, match=f"{variable}: ib9: no such interface here.*there are: .*lo"):
        find_route("127.0.0.1:37777", {variable: "ib9"})


def test_patterns_that_only_nccl_understands_are_left_to_it() -> None:
    assert find_route("127.0.0.1:37777", {"NCCL_SOCKET_IFNAME": "^docker,lo"}) == Route("lo", "127.0.0.1")
