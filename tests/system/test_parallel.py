"""Several processes make the run that one with all of their environments makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import make_config, tiny_config
from parallel_work import (
    exchange,
    in_processes,
    total_in_process,
    train_in_process,
    update_alone,
    update_in_process,
)

from ppolab.config.schema import Config
from ppolab.learning.native.library import compiler
from ppolab.runtime.ranks import Rank

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def config_with(**settings: Any) -> Config:
    explicit = {"minibatch_size": 8, "epochs": 3, "normalize_advantages": True, "model.initial_log_std": 0.0}
    return tiny_config("probe/Diary-v0", **(explicit | settings))


def test_messages_reach_every_process() -> None:
    results = in_processes(3, exchange, config_with())
    for rank, result in enumerate(results):
        assert result == {
            "sum": [3.0, 30.0], "all": ["from 0", "from 1", "from 2"], "first": 7,
            "is_first": rank == 0,
        }  # fmt: skip


def test_rollouts_add_up_in_the_order_of_one_process() -> None:
    results = in_processes(2, total_in_process, config_with())
    assert results[0] == results[1]
    assert results[0]["steps"] == 24 and results[0]["count"] == 8
    assert results[0]["mean"] == [pytest.approx(6.5)]
    rewards = [episode.total_reward for episode in results[0]["episodes"]]
    assert rewards == [1.0, 11.0, 12.0, 2.0]  # they ended at steps 1, 2, 3 and 4


VARIANTS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "eager": ("Box", False, {}),
    "discrete": ("Discrete", False, {"entropy_coef": 0.02}),
    "C++": ("Box", True, {}),
    "C++, discrete": ("Discrete", True, {"algorithm.value_clip": 0.2}),
    "plain advantages": ("Box", True, {"normalize_advantages": False, "recompute_advantages": True}),
    "no gradient clipping": ("Box", True, {"max_grad_norm": 0.0}),
    "sgd": ("Box", True, {"optimizer": "sgd"}),
    "annealed clip": ("Box", False, {"algorithm.anneal_clip": True}),
    "scaled values, value epochs": (
        "Box",
        True,
        {"normalize_values": True, "target_kl": 1e-9, "algorithm.value_epochs": 3},
    ),
    "deviations of the state": ("Box", False, {"model.state_dependent_std": True}),
    "penalty": ("Box", True, {"algorithm": "ppo_penalty", "algorithm.d_targ": 1e-3}),
    "penalty, discrete": ("Discrete", False, {"algorithm": "ppo_penalty", "algorithm.d_targ": None}),
    "vpg": ("Discrete", True, {"algorithm": "vpg", "optimizer.lr": 1e-3, "entropy_coef": 0.02}),
    "a2c": ("Box", False, {"algorithm": "a2c", "num_envs": 8, "rollout_steps": 16}),
    "npg": ("Box", False, {"algorithm": "npg"}),
    "trpo": ("Box", True, {"algorithm": "trpo"}),
    "trpo, discrete": ("Discrete", True, {"algorithm": "trpo", "normalize_advantages": False}),
    "minibatches of two": ("Box", True, {"minibatch_size": 2, "epochs": 1}),
}


@needs_compiler
@pytest.mark.parametrize("name", VARIANTS)
def test_an_update_of_two_processes_is_that_of_one_with_both_rollouts(name: str) -> None:
    space, native, settings = VARIANTS[name]
    config = config_with(**settings)
    scales = (1.0, 3.0)
    results = in_processes(2, update_in_process, config, space, native, scales)
    expected = update_alone(config, space, native, scales)
    assert results[0] == results[1]
    torch.testing.assert_close(
        torch.tensor(results[0].parameters), torch.tensor(expected.parameters), rtol=0, atol=2e-5
    )
    ours, theirs = vars(results[0].stats), vars(expected.stats)
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


@needs_compiler
def test_all_processes_stop_at_the_same_step_though_only_one_has_moved() -> None:
    """One process's rewards, and with them its advantages and its share of the KL, are a thousand times smaller."""
    settings = {"normalize_advantages": False, "optimizer.lr": 3e-3, "epochs": 10, "target_kl": 0.004}
    config, scales = config_with(**settings), (1e-3, 1.0)
    results = in_processes(2, update_in_process, config, "Box", True, scales)
    expected = update_alone(config, "Box", True, scales)
    assert 1 < expected.stats.epochs < 10
    assert [result.stats.epochs for result in results] == [expected.stats.epochs] * 2
    assert results[0] == results[1]


RUNS: dict[str, dict[str, Any]] = {
    # with seed 0, two hoppers touch the ground in the fourth rollout where 2e-7 of the parameters decide how
    "hopper": {"env": "hopper", "normalize_advantages": True, "seed": 1},
    "hopper on gymnasium": {"env": "hopper", "env.backend": "gymnasium"},
    "pendulum, bounded deviation": {"env": "pendulum", "exploration.final_log_std": -3.0, "total_steps": 4096},
    "cartpole": {"env": "cartpole", "rollout_steps": 32},
    "cartpole, penalty": {"env": "cartpole", "algorithm": "ppo_penalty", "epochs": 3, "compile": "false"},
    "cartpole, trpo": {"env": "cartpole", "algorithm": "trpo"},
    "masks": {"env.id": "probe_envs:probe/Allowed-v0", "+env.kwargs": {"sizes": [3, 4]}, "epochs": 3},
    "cartpole, memory": {
        "env": "cartpole", "rollout_steps": 24, "minibatch_size": 48, "epochs": 3, "normalize_advantages": True,
        "model.memory": "gru", "model.memory_size": 8, "trainer.threads": 1,
    },
    "images": {  # another number of threads rounds otherwise, which is 4e-8 after an iteration, and 4e-3 after five
        "env.id": "probe_envs:probe/Dot-v0",
        "+env.kwargs": {"mixed": True},
        "epochs": 3,
        "trainer.threads": 1,
    },
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_with_eight_environments_are_one_with_sixteen(name: str) -> None:
    settings = {"rollout_steps": 32, "target_kl": 0.02, **RUNS[name]}
    one = make_config(num_envs=16, **settings)
    two = make_config("trainer=ddp", num_envs=8, **{"trainer.accelerator": "cpu"}, **settings)
    assert two.world_size == 2 and two.batch_size == one.batch_size
    count = 1 if name == "images" else 5  # on some processors convolutions of half the rows round otherwise
    together = in_processes(2, train_in_process, two, count)
    alone = in_processes(1, train_alone, one, count)[0]
    assert all(len(iterations) == count for iterations in (*together, alone))
    for first, second, single in zip(*together, alone, strict=True):
        assert first.parameters == second.parameters  # bit for bit, after every iteration
        assert (first.mean, first.variance, first.steps) == (second.mean, second.variance, second.steps)
        assert first.steps == single.steps
        torch.testing.assert_close(torch.tensor(first.parameters), torch.tensor(single.parameters), rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.tensor(first.mean), torch.tensor(single.mean), rtol=1e-4, atol=1e-6)
        assert first.metrics["policy/epochs"] == second.metrics["policy/epochs"] == single.metrics["policy/epochs"]
        for key, value in single.metrics.items():
            if not key.startswith("time/"):
                assert first.metrics[key] == pytest.approx(value, rel=1e-2, abs=1e-4), key


def train_alone(_place: Rank, config: Config, count: int) -> Any:
    return train_in_process(Rank(), config, count)
