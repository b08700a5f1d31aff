"""Every setting does something: flipping it changes what a run computes, or what it does around the computation."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_config
from modules import trained_module
from small_runs import SMALL, run_small, small_config

from ppolab.config.algorithms import ABOUT, algorithm_names, reads
from ppolab.config.files import config_folder
from ppolab.config.loading import from_yaml, to_yaml
from ppolab.config.schema import Config, flattened
from ppolab.records.metrics_file import read_metrics
from ppolab.records.run_folder import RunFolder
from ppolab.training.result import RunResult


def parameters_after(config: Config, iterations: int = 3) -> torch.Tensor:
    """The flat parameters after a few iterations of the real module, without a trainer around it."""
    return trained_module(config, iterations).parameters_vector.vector.detach().clone()


@pytest.fixture(scope="module")
def unchanged() -> torch.Tensor:
    return parameters_after(small_config())


FLIPS: dict[str, Any] = {
    "seed": 1,
    "total_steps": 4000,
    "num_envs": 8,
    "rollout_steps": 32,
    "epochs": 2,
    "minibatch_size": 32,
    "clip": 0.02,
    "target_kl": 1e-6,
    "gamma": 0.9,
    "gae_lambda": 0.5,
    "value_coef": 2.0,
    "entropy_coef": 0.1,
    "max_grad_norm": 0.05,
    "anneal_lr": False,
    "lr_schedule": "constant",
    "entropy_schedule": "linear",
    "adapt_lr": True,
    "normalize_observations": False,
    "normalize_rewards": False,
    "normalize_values": True,
    "normalize_advantages": True,
    "recompute_advantages": False,
    "env.id": "MountainCarContinuous-v0",
    "env.backend": "envpool",
    "env.kwargs": {"g": 5.0},
    "env.rescale_actions": False,
    "env.squash_actions": True,
    "env.frame_stack": 2,
    "env.stagger": False,
    "env.wrappers": ["sample_wrappers:PlusOne"],
    "model.hidden_sizes": [16, 17],
    "model.actor_sizes": [16, 17],
    "model.critic_sizes": [16],
    "model.activation": "relu",
    "model.trunk": "shared",
    "model.dropout": 0.2,
    "model.orthogonal": False,
    "model.initial_log_std": 0.5,
    "model.state_dependent_std": True,
    "model.network": "sample_networks:Residual",
    "model.kwargs": {"width": 9},
    "model.memory": "gru",
    "model.memory_size": 9,
    "model.memory_layers": 2,
    "sequence_length": 4,
    "exploration.noise_color": 0.5,
    "exploration.final_log_std": -3.0,
    "optimizer._target_": "torch.optim.AdamW",
    "optimizer.lr": 0.02,
    "optimizer.betas": [0.5, 0.9],
    "optimizer.eps": 0.1,
    "optimizer.weight_decay": 0.1,
}
SHIPPED_LAYERS = {"model.hidden_sizes": [64, 64]}
"""What has to stand there for a network of the user's own."""
CHANGED_WITH: dict[str, dict[str, Any]] = {
    "model.network": SHIPPED_LAYERS,
    "model.kwargs": SHIPPED_LAYERS | {"model.network": "sample_networks:Residual"},
    "optimizer._target_": {"optimizer.weight_decay": 0.1},
    "adapt_lr": {"anneal_lr": False, "target_kl": 1e-6},
    "entropy_schedule": {"entropy_coef": 0.1},
    "model.memory_size": {"model.memory": "gru"},
    "model.memory_layers": {"model.memory": "lstm"},
    "sequence_length": {"model.memory": "gru"},
    "env.stagger": {"+env.kwargs": {"max_episode_steps": 20}},
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo_clip": {"value_clip": 0.01, "anneal_clip": True, "clip_schedule": "linear", "value_epochs": 5},
    "ppo_penalty": {"value_clip": 0.01, "beta": 5.0, "d_targ": 1e-9},
    "unclipped": {"value_clip": 0.01},
    "a2c": {},
    "vpg": {"value_epochs": 2},
    "npg": {"value_epochs": 2, "max_kl": 0.02, "cg_steps": 2, "damping": 0.5},
    "trpo": {
        "value_epochs": 2, "max_kl": 0.02, "cg_steps": 2, "damping": 0.5, "line_search_steps": 1, "backtrack": 0.5,
    },
}  # fmt: skip
"""For every setting of every algorithm, another value."""
HARSH = {"algorithm.max_kl": 5.0, "algorithm.damping": 0.0}
"""Steps so long that the line search has work."""


def renamed(changes: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the user's code are appended to: they have no keys of their own in the schema."""
    return {(f"+{key}" if key.endswith(".kwargs") else key): value for key, value in changes.items()}


@pytest.mark.parametrize("key", FLIPS)
def test_flipping_a_setting_changes_the_parameters(key: str, unchanged: torch.Tensor) -> None:
    common = CHANGED_WITH.get(key, {})
    before = parameters_after(small_config(**common)) if common else unchanged
    after = parameters_after(small_config(**renamed(common | {key: FLIPS[key]})))
    assert after.shape != before.shape or not torch.equal(after, before)


def test_every_setting_of_every_algorithm_has_another_value_here() -> None:
    assert set(ALGORITHMS) == set(algorithm_names())
    for name, values in ALGORITHMS.items():
        assert set(values) == set(make_config(f"algorithm={name}").algorithm) - set(ABOUT)


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, values in ALGORITHMS.items() for key in values])
def test_flipping_an_algorithm_s_setting_changes_the_parameters(name: str, key: str) -> None:
    common = {"algorithm": name, **(HARSH if key in ("line_search_steps", "backtrack") else {})}
    before = parameters_after(small_config(**common))
    after = parameters_after(small_config(**common, **{f"algorithm.{key}": ALGORITHMS[name][key]}))
    assert not torch.equal(after, before)


def with_settings(config: Config, changes: dict[str, Any]) -> Config:
    """The configuration with other values, unchecked."""
    of_model = {key.partition(".")[2]: value for key, value in changes.items() if key.startswith("model.")}
    others = {key: value for key, value in changes.items() if not key.startswith("model.")}
    return replace(config, model=replace(config.model, **of_model), **others)


@cache
def base_of(name: str) -> tuple[Config, torch.Tensor]:
    config = small_config(algorithm=name)
    return config, parameters_after(config)


@pytest.mark.parametrize("key", [key for key in FLIPS if "." not in key])
@pytest.mark.parametrize("name", [name for name in algorithm_names() if name != "ppo_clip"])
def test_an_algorithm_ignores_what_it_says_and_reads_the_rest(name: str, key: str) -> None:
    config, before = base_of(name)
    if key in CHANGED_WITH:
        config = with_settings(config, CHANGED_WITH[key])
        before = parameters_after(config)
    after = parameters_after(replace(config, **{key: FLIPS[key]}))
    assert (after.shape == before.shape and torch.equal(after, before)) != reads(config.algorithm, key)


@pytest.mark.parametrize("name", ["adamw", "rmsprop", "sgd"])
def test_each_optimizer_makes_steps_of_its_own(name: str, unchanged: torch.Tensor) -> None:
    settings = {**SMALL, "optimizer": name, "optimizer.lr": 0.01}
    after = parameters_after(make_config(**settings))
    assert after.isfinite().all()
    assert not torch.allclose(after, unchanged, atol=1e-4)


def test_the_same_settings_give_the_same_parameters(unchanged: torch.Tensor) -> None:
    assert torch.equal(parameters_after(small_config()), unchanged)


def test_processes_and_threads_of_the_simulation_change_nothing(unchanged: torch.Tensor) -> None:
    parallel = parameters_after(small_config(**{"env.vectorization": "async"}))
    assert torch.equal(parallel, unchanged)
    pool = {"env.backend": "envpool", "compile": "auto"}  # C++ code, whose rows do not depend on their grouping
    one, two = (parameters_after(small_config(**pool, **{"env.num_threads": count})) for count in (1, 2))
    assert torch.equal(one, two)


def evaluations(folder: Path) -> list[dict[str, float]]:
    return [row for row in read_metrics(RunFolder(folder).metrics) if "eval/return" in row]


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_small(tmp_path_factory.mktemp("plain"))


def test_eval_interval_sets_how_often_the_policy_is_evaluated(plain_run: RunResult, tmp_path: Path) -> None:
    run_small(tmp_path, eval_interval=0)
    assert [row["step"] for row in evaluations(plain_run.folder.path)] == [256, 448, 640]  # first at or beyond each 200
    assert len(evaluations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("total_steps", "interval"),
    [(4_000, 10_000), (50_000, 10_000), (100_000, 20_000), (500_000, 100_000), (1_000_000, 100_000)],
)
def test_short_runs_are_evaluated_every_fifth_of_their_steps(total_steps: int, interval: int) -> None:
    assert make_config(f"total_steps={total_steps}").eval_interval == interval
    assert make_config(f"total_steps={total_steps}", "eval_interval=0").eval_interval == 0


def test_a_stored_interval_stays_whatever_becomes_of_the_length() -> None:
    stored = to_yaml(make_config("total_steps=100000"))
    assert from_yaml(stored.replace("total_steps: 100000", "total_steps: 400000")).eval_interval == 20_000
    assert from_yaml(stored.replace("eval_interval: 20000", "eval_interval: 100000")).eval_interval == 100_000


def test_eval_episodes_sets_how_many_episodes_are_averaged(plain_run: RunResult, tmp_path: Path) -> None:
    run_small(tmp_path, eval_episodes=1)
    assert evaluations(tmp_path)[0]["eval/return_std"] == 0
    assert evaluations(plain_run.folder.path)[0]["eval/return_std"] > 0


def test_objective_names_the_value_that_a_run_returns(plain_run: RunResult, tmp_path: Path) -> None:
    other = run_small(tmp_path, objective="loss/value, eval/return")
    assert plain_run.objectives == (plain_run.metrics["eval/return"],)
    assert other.objectives == (other.metrics["loss/value"], other.metrics["eval/return"])


def test_no_setting_is_without_a_test() -> None:
    tested_elsewhere = {
        "compile",  # test_native.py, test_update.py: compiled and eager agree
        "rerun",  # test_rerun.py
        "init_from",  # test_warm_start.py
        "resume", "trainer.accelerator", "logger.kind", "logger.tracking_uri", "logger.experiment",
        "logger.run_name",  # test_cli*.py: real commands
        "logger.register",  # test_registered_policies.py
        "trainer.devices", "trainer.num_nodes",  # test_parallel.py, test_ddp_runs.py
        "env.timeout",  # test_watchdog.py
        "env.log_info",  # test_env_metrics.py
        "env.action_mask",  # test_masks.py
        "progress",  # test_progress_bar.py
        "model.encoder",  # test_encoders.py
        "trainer.precision",  # test_image_updates.py
        "callbacks",  # test_user_callbacks.py
        "optimizer.fused",  # the same mathematics
        "algorithm.name", "algorithm.ignores",  # test_algorithms.py, test_cli.py
        *(f"algorithm.{key}" for key in ALGORITHMS["ppo_clip"]),  # above
    }  # fmt: skip
    tested_here = {
        *FLIPS, "env.vectorization", "env.num_threads", "eval_interval", "eval_episodes", "checkpoint_interval",
        "keep_checkpoints", "objective", "trainer.threads", "logger.video",
    }  # fmt: skip
    assert set(flattened(small_config())) == tested_here | tested_elsewhere


@pytest.mark.parametrize("name", sorted(path.stem for path in (config_folder("conf") / "env").glob("*.yaml")))
@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
def test_every_shipped_environment_trains_an_iteration(name: str, backend: str) -> None:
    config = make_config(**(SMALL | {"env": name, "env.backend": backend}))
    before = parameters_after(config, iterations=0)
    after = parameters_after(config, iterations=1)
    assert after.isfinite().all()
    assert not torch.equal(before, after)


ELSEWHERE = {"atari", "gpu"}  # test_images.py, tests/system/test_warp.py
FOLDER = config_folder("conf") / "experiment"
EXPERIMENTS = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml")} - ELSEWHERE
SHORTER = {"minigrid": {"rollout_steps": 32, "epochs": 1, "compile": "false"}}


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_shipped_experiment_trains_an_iteration(name: str) -> None:
    config = make_config(f"experiment={name}", **SHORTER.get(name, {}))
    assert not torch.equal(parameters_after(config, iterations=0), parameters_after(config, iterations=1))
