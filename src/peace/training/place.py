"""Where a process stands among those that train together: read from what Slurm, torchrun or PEACE itself tells it."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from lightning.fabric.plugins.environments import SLURMEnvironment

from peace.errors import InputError

_PORTS = range(15_000, 25_000)


@dataclass(frozen=True)
class Place:
    """A process among `nodes` × `devices` that train together.

    Attributes:
        devices: Processes on each node.
        nodes: Machines.
        node: Which machine this is.
        local: Which of the machine's processes this is.
        address: Machine of the first process.
        port: Port at which it waits for the others.
        starts: Whether this process has to start the others of its machine.
    """

    devices: int = 1
    nodes: int = 1
    node: int = 0
    local: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    starts: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the process that prints, logs and writes."""
        return self.node == self.local == 0

    def variables(self) -> dict[str, str]:
        """Returns the environment variables by which Lightning and torch find the others."""
        return {
            "MASTER_ADDR": self.address, "MASTER_PORT": str(self.port), "NODE_RANK": str(self.node),
            "LOCAL_RANK": str(self.local), "WORLD_SIZE": str(self.nodes * self.devices),
        }  # fmt: skip


def find_place(devices: int, nodes: int, environment: Mapping[str, str] = os.environ) -> Place:
    """Returns the place of this process.

    Slurm's own variables are read rather than left to Lightning, which takes every job for one that `srun` started and
    would requeue it by itself. A step of Slurm may hold a process for each device, or one for each node, which then
    starts the others of its node; what runs in a batch script without `srun`, or without Slurm, starts all.

    Args:
        devices: `trainer.devices`.
        nodes: `trainer.num_nodes`.
        environment: The process's variables.

    Raises:
        InputError: As many processes were started as neither devices nor nodes were asked for, or several nodes were
            asked for and nothing says how to find them.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if "LOCAL_RANK" in environment and devices * nodes > 1:
        return _started(devices, nodes, environment)
    if tasks > 1:
        return _in_step(devices, nodes, environment)
    if nodes > 1:
        return _on_node(devices, nodes, environment)
    return Place(devices, starts=True, port=_free_port()) if devices > 1 else Place()


def _started(devices: int, nodes: int, environment: Mapping[str, str]) -> Place:
    """Of a process that torchrun or PEACE started."""
    if (started := int(environment.get("WORLD_SIZE", 0))) != devices * nodes:
        raise InputError("not as many processes as devices", got=started, expected=devices * nodes,
                         do="set trainer.devices and trainer.num_nodes to what was started")  # fmt: skip
    node = int(environment.get("NODE_RANK", environment.get("GROUP_RANK", 0)))
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    return Place(devices, nodes, node, int(environment["LOCAL_RANK"]), address, port)


def _in_step(devices: int, nodes: int, environment: Mapping[str, str]) -> Place:
    """Of one of several processes that `srun` started."""
    across = f"(x{nodes})" if nodes > 1 else ""
    spread = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    if spread not in (f"{devices}{across}", f"1{across}"):
        raise InputError("srun started other processes than the config asks for", got=f"{spread} a node",
                         expected=f"{devices}{across}", do="set trainer.devices and trainer.num_nodes to the job's "
                         "--ntasks-per-node and --nodes")  # fmt: skip
    each = spread == f"{devices}{across}"
    address = SLURMEnvironment.resolve_root_node_address(environment["SLURM_STEP_NODELIST"])
    # Two jobs, or two steps of one, may share a machine.
    step = int(environment["SLURM_JOB_ID"]) * 7 + int(environment.get("SLURM_STEP_ID", 0))
    local = int(environment["SLURM_LOCALID"]) if each else 0
    return Place(
        devices, nodes, int(environment["SLURM_NODEID"]), local, environment.get("MASTER_ADDR", address),
        int(environment.get("MASTER_PORT", _PORTS[step % len(_PORTS)])), starts=not each,
    )  # fmt: skip


def _on_node(devices: int, nodes: int, environment: Mapping[str, str]) -> Place:
    """Of the process that a person started on each of several machines."""
    wanted = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if missing := [name for name in wanted if name not in environment]:
        raise InputError("several nodes, and nothing says where they are", where="'trainer.num_nodes'", got=nodes,
                         do=f"start it with srun, or set {', '.join(missing)} on each node")  # fmt: skip
    address, port, node = (environment[name] for name in wanted)
    return Place(devices, nodes, int(node), 0, address, int(port), starts=devices > 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
