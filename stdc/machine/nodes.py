"""The machines that share one training, and which of them this process is on.

SLURM's `srun`, a PaddleJob, an Indexed Job of Kubernetes, or a person start the same program once per node. Which node
it is on and where node 0 can be reached stand in the environment. Node 0 alone holds the run folder's lock and writes
outputs; what else passes between the nodes' watchers lies in the run folder, which all of them see.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import re
import socket
import struct
from typing import Mapping, Optional, Tuple

from stdc.errors import InputError

#: Ports for node 0's meeting place are chosen by the job's number from here on, so that two jobs do not share one.
_FIRST_PORT = 20000
_PORTS = 20000

#: Names this start of a training where another node has announced it (`stdc.machine.joining`) or the rule has started a
#: task per node: a job that SLURM starts again keeps its number, and its tasks do not learn that it was started again.
LAUNCH_VARIABLE = "STDC_LAUNCH"

_HOW_TO_START = (
    "start the program once per node with srun, or set PADDLE_MASTER=<address of node 0>:<port>, PADDLE_NNODES and "
    "PADDLE_RANK on each"
)


@dataclasses.dataclass(frozen=True)
class Nodes:
    """The nodes of one training.

    Attributes:
        count: how many.
        number: of this one, 0 for the first.
        master: "address:port" of node 0; empty for one node.
        launch: names this start of the job, equal on all its nodes; empty for one node.
    """

    count: int = 1
    number: int = 0
    master: str = ""
    launch: str = ""


#: A training on one machine, which is the usual case.
ONE_NODE = Nodes()

#: Where a user names the interface between the nodes, for gloo and for NCCL.
INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
#: The kernel's request for the IPv4 address of an interface (linux/sockios.h).
_SIOCGIFADDR = 0x8915


@dataclasses.dataclass(frozen=True)
class Route:
    """How this node is reached by the others: the interface, and its IPv4 address."""

    interface: str
    address: str


def find_route(master: str, environment: Mapping[str, str]) -> Optional[Route]:
    """The interface that the user names, or the one towards node 0.

    The host's name, which Paddle and gloo would look up, is often that of loopback, which no other node can reach.

    Args:
        master: "address:port" of node 0.
        environment: may name an interface.
    Returns:
        None where neither can be told, as for a name of node 0 that nobody knows yet.
    Raises:
        InputError: there is no interface of the name that the user gives.
    """
    for variable in INTERFACE_VARIABLES:
        name = environment.get(variable, "")
        # NCCL also takes lists and patterns; those are left to it.
        if re.fullmatch(r"[\w.@-]+", name):
            address = _address_of(name)
            if address is None:
                known = ", ".join(sorted(other for _, other in socket.if_nameindex()))
                raise InputError(
                    f"{variable}: {name}: no such interface here, or it has no IPv4 address; there are: {known}"
                )
            return Route(name, address)
    host, _, port = master.rpartition(":")
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing, but makes the kernel choose.
        probe.connect((host, int(port)))
        address = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            if _address_of(name) == address:
                return Route(name, address)
    return None


def _address_of(interface: str) -> Optional[str]:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        request = struct.pack("256s", interface.encode()[:15])
        return socket.inet_ntoa(fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)[20:24])
    return None


def find_nodes(wanted: Optional[int], environment: Mapping[str, str]) -> Nodes:
    """The nodes of this job, from the scheduler's or the launcher's variables.

    Args:
        wanted: how many nodes the user asked for; None: as many as the job has.
    Raises:
        InputError: the job has another number of nodes than was asked for, or does not say which node this is.
    """
    found, source = _count(environment)
    count = found if wanted is None else wanted
    if count < 1:
        raise InputError(f"nodes: {count}; at least 1 is needed")
    if found != count and (found > 1 or count > 1):
        says = f"this job has {found} ({source})" if found > 1 else "this process is not part of a job of several nodes"
        raise InputError(f"hardware.nodes: {count}, but {says}; {_HOW_TO_START}")
    if count == 1:
        return ONE_NODE
    if source == "SLURM_NNODES":
        return _slurm(count, environment)
    return _paddle(count, environment)


def _count(environment: Mapping[str, str]) -> Tuple[int, str]:
    """How many nodes the environment tells of, and by which variable. The more particular one wins."""
    for name in ("PADDLE_NNODES", "SLURM_NNODES"):
        text = environment.get(name)
        if not text:
            continue
        # A range such as 2:4 asks for an elastic job: with the number of nodes the global batch would change.
        if not text.isdigit() or not int(text):
            raise InputError(f"{name}: {text!r}; a number of nodes is expected")
        if int(text) > 1:
            return int(text), name
    return 1, ""


def _slurm(count: int, environment: Mapping[str, str]) -> Nodes:
    number, job = environment.get("SLURM_PROCID", ""), environment.get("SLURM_JOB_ID", "")
    address = environment.get("SLURM_LAUNCH_NODE_IPADDR", "")
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "")
    if not number.isdigit() or not job.isdigit() or not address or tasks != str(count):
        raise InputError(f"hardware.nodes: {count}, but SLURM runs {tasks or '?'} tasks of this step; {_HOW_TO_START}")
    port = _FIRST_PORT + int(job) % _PORTS
    step, restart = environment.get("SLURM_STEP_ID", "0"), environment.get("SLURM_RESTART_COUNT", "0")
    launch = environment.get(LAUNCH_VARIABLE) or f"slurm-{job}.{step}-{restart}"
    return Nodes(count, int(number), f"{address}:{port}", launch)


def _paddle(count: int, environment: Mapping[str, str]) -> Nodes:
    master = environment.get("PADDLE_MASTER", "")
    if not re.fullmatch(r"[^:\s]+:\d+", master):
        raise InputError(f"PADDLE_MASTER: {master!r}; <address of node 0>:<port> is expected")
    number = _number(environment)
    if number is not None and number >= count:
        raise InputError(
            f"this is node {number} (PADDLE_RANK, JOB_COMPLETION_INDEX, or the name of the pod), but PADDLE_NNODES is "
            f"{count}; the nodes are 0 to {count - 1}"
        )
    if number is None:
        raise InputError(
            f"PADDLE_NNODES is {count}, but which node this is stands in none of PADDLE_RANK, JOB_COMPLETION_INDEX and "
            "the number at the end of POD_NAME or HOSTNAME; set PADDLE_RANK, 0 for the first node"
        )
    # A PaddleJob names the master by its address on node 0 and by its host on the others, so it names no start.
    launch = environment.get(LAUNCH_VARIABLE) or environment.get("PADDLE_JOB_ID") or master
    return Nodes(count, number, master, launch)


def _number(environment: Mapping[str, str]) -> Optional[int]:
    """Which node this is: as told by the user, an Indexed Job, or the name of a pod of a set (`train-worker-1`)."""
    for name in ("PADDLE_RANK", "JOB_COMPLETION_INDEX"):
        text = environment.get(name, "")
        if text.isdigit():
            return int(text)
    for name in ("POD_NAME", "HOSTNAME"):
        match = re.search(r"-(\d+)$", environment.get(name, ""))
        if match:
            return int(match.group(1))
    return None
