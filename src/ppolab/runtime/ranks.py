"""Which of a run's processes this one is, before anything heavy is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ppolab.config import Config
from ppolab.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """One process of a run.

    Attributes:
        rank: its number among all `size`. local_rank: its number on its machine. node_rank: its machine's number.
        meeting: where they find each other, as a URL; None on one machine, where they agree on a file.
    """

    rank: int = 0
    local_rank: int = 0
    node_rank: int = 0
    size: int = 1
    meeting: str | None = None


def started_as_follower() -> bool:
    """Whether torchrun, srun or NODE_RANK say that this process is not the first, if it is one of a run's several."""
    place = _torchrun() or _srun()
    return _number("NODE_RANK") > 0 if place is None else place.rank > 0


def given_place(config: Config) -> Place | None:
    """Where torchrun or srun have put this process; None if it is to start the others of its machine itself.

    Raises:
        ConfigError: they have started more or fewer processes than the configuration says.
    """
    place = (_torchrun() or _srun()) if config.processes > 1 else None
    if place is None:
        return None
    if place.size != config.processes:
        raise ConfigError(
            f"trainer.devices={config.trainer.devices} trainer.num_nodes={config.trainer.num_nodes}: these make "
            f"{config.processes} processes, but {place.size} were started from outside; make them equal"
        )
    return replace(place, meeting=_address())


def own_places(config: Config) -> list[Place]:
    """The processes of this machine, which is number NODE_RANK of `trainer.num_nodes`; the first of them is this one.

    Raises:
        ConfigError: there are several machines, but no MASTER_ADDR and MASTER_PORT.
    """
    node, devices = _number("NODE_RANK"), config.trainer.devices
    if node >= config.trainer.num_nodes:
        raise ConfigError(f"NODE_RANK={node}: must be less than trainer.num_nodes={config.trainer.num_nodes}")
    meeting = _address() if config.trainer.num_nodes > 1 else None
    return [Place(node * devices + local, local, node, config.processes, meeting) for local in range(devices)]


def _torchrun() -> Place | None:
    if not all(os.environ.get(name, "").isdigit() for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")):
        return None
    return Place(_number("RANK"), _number("LOCAL_RANK"), _number("GROUP_RANK"), _number("WORLD_SIZE"))


def _srun() -> Place | None:
    names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS")
    if not all(os.environ.get(name, "").isdigit() for name in names):
        return None
    rank, local_rank, node_rank, size = (_number(name) for name in names)
    return Place(rank, local_rank, node_rank, size) if size > 1 else None  # one task starts the others


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
