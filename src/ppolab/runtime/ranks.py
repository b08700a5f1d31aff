"""Tell which rank of a run this process is, before anything heavy is imported.

Lightning has classes for this (TorchElasticEnvironment, SLURMEnvironment). They are not used, for three reasons. To
import them takes seconds, and a command asks for its rank before it answers a mistyped key. SLURMEnvironment makes up
an address and a port where none is set, and sets environment variables; here a missing MASTER_ADDR is one line. And
their checks end in tracebacks that do not name our settings. What is left of them is to read four variables each.

The rendezvous is torch.distributed's own: `tcp://` makes its TCPStore, and `file://` its FileStore. `env://` makes the
same TCPStore from variables of the whole process, which two runs in one process would have to share.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ppolab.config.schema import Config
from ppolab.errors import ConfigError


@dataclass(frozen=True)
class Rank:
    """Hold the place of one process among the ranks of a run.

    Attributes:
        global_rank: its number among all `world_size` ranks.
        local_rank: its number on its machine.
        node_rank: the number of its machine.
        world_size: the number of ranks on all machines.
        rendezvous: URL where the ranks find each other; None on one machine until the first rank has chosen a file.
    """

    global_rank: int = 0
    local_rank: int = 0
    node_rank: int = 0
    world_size: int = 1
    rendezvous: str | None = None


def started_as_another_rank() -> bool:
    """Return whether torchrun, srun or NODE_RANK say that this process, if it is one of several, is not the first."""
    rank = _torchrun() or _srun()
    return _number("NODE_RANK") > 0 if rank is None else rank.global_rank > 0


def rank_given_from_outside(config: Config) -> Rank | None:
    """Return the rank that torchrun or srun gave this process; None if it must start the ranks of its machine itself.

    Raises:
        ConfigError: they have started more or fewer processes than the configuration says.
    """
    rank = (_torchrun() or _srun()) if config.world_size > 1 else None
    if rank is None:
        return None
    if rank.world_size != config.world_size:
        raise ConfigError(
            f"trainer.devices={config.trainer.devices} trainer.num_nodes={config.trainer.num_nodes}: these make "
            f"{config.world_size} processes, but {rank.world_size} were started from outside; make them equal"
        )
    return replace(rank, rendezvous=_address())


def ranks_of_this_machine(config: Config) -> list[Rank]:
    """Return the ranks of this machine, which is number NODE_RANK of `trainer.num_nodes`; this process is the first.

    Raises:
        ConfigError: there are several machines, but no MASTER_ADDR and MASTER_PORT.
    """
    node, devices = _number("NODE_RANK"), config.trainer.devices
    if node >= config.trainer.num_nodes:
        raise ConfigError(f"NODE_RANK={node}: must be less than trainer.num_nodes={config.trainer.num_nodes}")
    rendezvous = _address() if config.trainer.num_nodes > 1 else None
    return [Rank(node * devices + local, local, node, config.world_size, rendezvous) for local in range(devices)]


def _torchrun() -> Rank | None:
    if not all(os.environ.get(name, "").isdigit() for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")):
        return None
    return Rank(_number("RANK"), _number("LOCAL_RANK"), _number("GROUP_RANK"), _number("WORLD_SIZE"))


def _srun() -> Rank | None:
    names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS")
    if not all(os.environ.get(name, "").isdigit() for name in names):
        return None
    rank, local_rank, node_rank, size = (_number(name) for name in names)
    return Rank(rank, local_rank, node_rank, size) if size > 1 else None  # one task starts the others


def _address() -> str:
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not address or not port:
        raise ConfigError(
            "MASTER_ADDR, MASTER_PORT: must be set when a run's processes are on several machines or started by srun: "
            "the name of the first machine, and a free port there"
        )
    return f"tcp://{address}:{port}"


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else 0
