"""Which process of a run this one is."""

from __future__ import annotations

import pytest

from helpers import make_config
from ppolab.errors import ConfigError
from ppolab.places import Place, given_place, own_places, started_as_follower

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
    assert given_place(config) is None
    assert own_places(config) == [Place(0, 0, 0, 2), Place(1, 1, 0, 2)]
    assert not started_as_follower()


def test_every_machine_starts_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, ADDRESS | {"NODE_RANK": "1"})
    there = "tcp://node0:1234"
    assert own_places(two_machines()) == [Place(2, 0, 1, 4, there), Place(3, 1, 1, 4, there)]
    assert started_as_follower()


@pytest.mark.parametrize(("variables", "place"), [
    (TORCHRUN, Place(3, 1, 1, 4, "tcp://node0:1234")), (SRUN, Place(2, 0, 1, 4, "tcp://node0:1234")),
])  # fmt: skip
def test_others_may_have_started_them(variables: dict[str, str], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, variables)
    assert given_place(two_machines()) == place
    assert started_as_follower()


def test_a_single_task_of_slurm_starts_the_others_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    assert given_place(make_config("trainer=ddp")) is None


def test_a_run_of_one_process_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, TORCHRUN)
    assert given_place(make_config()) is None


def test_contradictions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="MASTER_ADDR, MASTER_PORT: must be set"):
        own_places(two_machines())
    set_all(monkeypatch, {"NODE_RANK": "2"})
    with pytest.raises(ConfigError, match=r"NODE_RANK=2: must be less than trainer\.num_nodes=2"):
        own_places(two_machines())
    set_all(monkeypatch, TORCHRUN)
    with pytest.raises(ConfigError, match="these make 2 processes, but 4 were started from outside"):
        given_place(make_config("trainer=ddp"))
