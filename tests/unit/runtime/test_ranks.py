"""Which process of a run this one is."""

from __future__ import annotations

import pytest
from helpers import make_config

from ppolab.errors import ConfigError
from ppolab.runtime.ranks import Rank, rank_given_from_outside, ranks_of_this_machine, started_as_another_rank

ADDRESS = {"MASTER_ADDR": "node0", "MASTER_PORT": "1234"}
TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4", **ADDRESS}
SRUN = {"SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1", "SLURM_NTASKS": "4", **ADDRESS}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SRUN, "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def two_machines() -> object:
    return make_config("trainer=ddp", **{"trainer.num_nodes": 2})


def test_one_machine_starts_its_own_processes() -> None:
    config = make_config("trainer=ddp")
    assert rank_given_from_outside(config) is None
    assert ranks_of_this_machine(config) == [Rank(0, 0, 0, 2), Rank(1, 1, 0, 2)]
    assert not started_as_another_rank()


def test_every_machine_starts_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, ADDRESS | {"NODE_RANK": "1"})
    there = "tcp://node0:1234"
    assert ranks_of_this_machine(two_machines()) == [Rank(2, 0, 1, 4, there), Rank(3, 1, 1, 4, there)]
    assert started_as_another_rank()


@pytest.mark.parametrize(("variables", "rank"), [
    (TORCHRUN, Rank(3, 1, 1, 4, "tcp://node0:1234")), (SRUN, Rank(2, 0, 1, 4, "tcp://node0:1234")),
])  # fmt: skip
def test_others_may_have_started_them(variables: dict[str, str], rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, variables)
    assert rank_given_from_outside(two_machines()) == rank
    assert started_as_another_rank()


def test_a_single_task_of_slurm_starts_the_others_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    assert rank_given_from_outside(make_config("trainer=ddp")) is None


def test_a_run_of_one_process_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, TORCHRUN)
    assert rank_given_from_outside(make_config()) is None


def test_contradictions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="MASTER_ADDR, MASTER_PORT: must be set"):
        ranks_of_this_machine(two_machines())
    set_all(monkeypatch, {"NODE_RANK": "2"})
    with pytest.raises(ConfigError, match=r"NODE_RANK=2: must be less than trainer\.num_nodes=2"):
        ranks_of_this_machine(two_machines())
    set_all(monkeypatch, TORCHRUN)
    with pytest.raises(ConfigError, match="these make 2 processes, but 4 were started from outside"):
        rank_given_from_outside(make_config("trainer=ddp"))
