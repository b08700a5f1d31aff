"""A new run that starts from the policy of an earlier one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from helpers import make_env
from small_runs import run_small, small_config

from ppolab.agents.policy import build_policy
from ppolab.errors import ConfigError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder, find_run
from ppolab.training.build import build_module
from ppolab.training.module import OnPolicyModule
from ppolab.training.run import run
from ppolab.training.warm_start import warm_start

TWO = Discrete(2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    run_small(folder, **{"logger.video": False, "normalize_values": True})
    return folder


def started(config: Any) -> OnPolicyModule:
    """A module where the first iteration begins."""
    env = make_env(config)
    torch.manual_seed(config.seed)
    policy = build_policy(config, env)
    taken = warm_start(config, policy, env.action_space)
    module = build_module(config, env, policy)
    module.start(None, taken)
    env.close()
    return module


def of_source(source: Path, name: str = "best") -> dict[str, Any]:
    return load_checkpoint(source / f"checkpoints/{name}.ckpt").module


@pytest.mark.parametrize("algorithm", ["ppo_clip", "trpo", "a2c"])
def test_weights_are_taken_and_the_rest_is_new(source: Path, algorithm: str) -> None:
    module = started(small_config(init_from=str(source), algorithm=algorithm, seed=5))
    before, now = of_source(source)["policy"], module.policy.state_dict()
    for name, value in before.items():
        if not name.startswith("observation_scale"):
            assert torch.equal(now[name], value), name
    assert module.iteration == 0
    assert module.steps == 64, "the first rollout, which fills the statistics"
    assert not module.optimizer.state_dict()["state"]
    assert module.reward_scale.count == 64


def test_observation_statistics_go_on(source: Path) -> None:
    module = started(small_config(init_from=str(source)))
    assert module.policy.observation_scale.count == of_source(source)["policy"]["observation_scale.count"] + 64


def test_the_scale_of_values_is_taken_where_both_have_one(source: Path) -> None:
    module = started(small_config(init_from=str(source), normalize_values=True))
    theirs = of_source(source)["algorithm"]["value_scale"]
    assert theirs["count"] > 0
    assert torch.equal(module.learner.state()["value_scale"]["mean"], theirs["mean"])
    assert "value_scale" not in started(small_config(init_from=str(source))).learner.state()


def test_a_checkpoint_file_names_its_own(source: Path) -> None:
    file = source / "checkpoints/last.ckpt"
    taken = warm_start(small_config(init_from=str(file)), policy_of(small_config()), TWO)
    assert taken is not None
    assert torch.equal(taken.policy["value_head.bias"], of_source(source, "last")["policy"]["value_head.bias"])
    assert taken.tags == {"init_from.steps": str(of_source(source, "last")["steps"])}


def policy_of(config: Any) -> Any:
    env = make_env(config)
    policy = build_policy(config, env)
    env.close()
    return policy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.hidden_sizes": [16, 8]},
            r"init_from=\S+: the networks differ: action_head.weight is \[1, 16\] there and \[1, 8\] here; set "
            r"model.hidden_sizes=\[16,16\], as there",
        ),
        (
            {"env": "cartpole", "model.initial_log_std": 0.0},
            r"action_head.bias is \[1\] there and \[2\] here; take a task with the same spaces$",
        ),
        (
            {"model.state_dependent_std": True},
            r"action_head.bias is \[1\] there and \[2\] here; set model.state_dependent_std=false, as there$",
        ),
        ({"model.trunk": "shared"}, r"critic.0.bias is \[16\] there and missing here; set model.trunk=separate, as"),
        (
            {
                "model.network": "sample_networks:Residual",
                "+model.kwargs": {"width": 9},
                "model.hidden_sizes": [64, 64],
            },
            r"; set model.hidden_sizes=\[16,16\] model.network=null and leave out model.kwargs.width, as there$",
        ),
        ({"model.activation": "relu"}, r"model.activation=tanh, and this run has model.activation=relu; set"),
        ({"model.memory": "gru"}, r"model.memory=none, and this run has model.memory=gru; set model.memory=none"),
        ({"normalize_observations": False}, r"normalize_observations=true, and this run has .*=false; set"),
    ],
)
def test_another_network_is_refused(source: Path, changes: dict[str, Any], message: str) -> None:
    config = small_config(init_from=str(source), **changes)
    with pytest.raises(ConfigError, match=message):
        warm_start(config, policy_of(config), TWO)


def test_a_warm_run_goes_on_without_its_source(source: Path, tmp_path: Path) -> None:
    """It has taken the policy before, and does not take it again."""
    settings = {"logger": "none", "logger.video": False, "anneal_lr": False, "eval_episodes": 1}
    run(small_config(init_from=str(source), total_steps=256, **settings), tmp_path / "whole")
    run(small_config(init_from=str(source), total_steps=128, **settings), tmp_path / "cut")
    longer = small_config(init_from="gone", total_steps=256, **settings)
    run(longer, tmp_path / "cut", find_run("resume", str(tmp_path / "cut")))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_the_tag_has_the_id_that_the_store_told_after_the_checkpoint(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_checkpoint(source / "checkpoints/best.ckpt").run_id is None
    monkeypatch.setattr(RunFolder, "run_id", lambda _: "0123")
    taken = warm_start(small_config(init_from=str(source)), policy_of(small_config()), TWO)
    assert taken is not None and taken.tags["init_from.run_id"] == "0123"


def test_the_log_names_the_checkpoint(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_config(init_from=str(source))
    with caplog.at_level(logging.INFO):
        warm_start(config, policy_of(config), TWO)
    steps = of_source(source)["steps"]
    assert (
        f"starting from the policy in {source}/checkpoints/best.ckpt, which was trained for {steps} steps"
        in caplog.text
    )


def losses(folder: Path) -> list[float]:
    return [row["loss/value"] for row in read_metrics(folder / "metrics.csv") if "loss/value" in row]


def test_it_changes_the_result(source: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"total_steps": 128, "logger.video": False}
    run_small(tmp_path / "cold", **settings)
    run_small(tmp_path / "warm", init_from=str(source), **settings)
    assert losses(tmp_path / "cold") != losses(tmp_path / "warm")
