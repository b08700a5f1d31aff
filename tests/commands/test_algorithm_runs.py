"""Whole runs of every algorithm: checkpoints, resume, commands, and the example of a new one in docs/algorithms.md."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_config

from commands import ROOT, TRAIN, assert_one_line, metric_rows, run_command, run_folders, train
from ppolab.agents.policy import build_policy
from ppolab.config.algorithms import algorithm_names, refuse_unread
from ppolab.config.loading import from_yaml, to_yaml
from ppolab.config.schema import Config
from ppolab.envs.factory import choose_backend, environment_seeds, make_vector_env
from ppolab.errors import ConfigError
from ppolab.records.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ppolab.training.build import build_module
from ppolab.training.module import OnPolicyModule

SMALL: dict[str, Any] = {
    "env": "pendulum", "env.backend": "gymnasium", "num_envs": 4, "rollout_steps": 16, "minibatch_size": 16,
    "epochs": 3, "total_steps": 2000, "model.hidden_sizes": [16, 16], "target_kl": None,
}  # fmt: skip
RUN = (
    "env=cartpole", "num_envs=4", "rollout_steps=16", "total_steps=640", "eval_episodes=2", "logger=none",
    "logger.video=false",
)  # fmt: skip


def iterations(config: Config, state: dict[str, Any] | None, count: int) -> OnPolicyModule:
    """The real module after `count` of them, from the start or from `state`."""
    torch.manual_seed(config.seed)
    env = make_vector_env(config.env, environment_seeds(config.seed, 0, config.num_envs), choose_backend(config.env))
    module = build_module(config, env, build_policy(config, env))
    module.start(state)
    for iteration in range(count):
        module.training_step(None, iteration)
    return module


IN_PARTS = {"env.id": "probe_envs:probe/Orders-v0"}


@pytest.mark.parametrize(("compile", "task"), [("auto", {}), ("false", {}), ("false", IN_PARTS)], ids=str)
@pytest.mark.parametrize("name", algorithm_names())
def test_a_run_goes_on_from_its_checkpoint_as_itself(
    name: str, compile: str, task: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config(**(SMALL | task), algorithm=name, compile=compile)
    whole, half = iterations(config, None, 6), iterations(config, None, 3)
    checkpoint = Checkpoint(to_yaml(config), half.state(barrier=True), None, None)
    save_checkpoint(checkpoint, tmp_path / "last.ckpt")
    read = load_checkpoint(tmp_path / "last.ckpt")
    assert from_yaml(read.config) == config
    resumed = iterations(from_yaml(read.config), read.module, 3)
    assert resumed.parameters_vector.vector.equal(whole.parameters_vector.vector)
    assert not half.parameters_vector.vector.equal(whole.parameters_vector.vector)
    assert resumed.steps == whole.steps
    for module in (whole, half, resumed):
        module.collector._env.close()


@pytest.mark.parametrize("name", ["ppo_clip", "vpg"])
@pytest.mark.parametrize("optimizer", ["muon", "adafactor"])
def test_a_run_with_an_optimizer_of_matrices_goes_on_as_itself(optimizer: str, name: str, tmp_path: Path) -> None:
    own = {"algorithm.value_epochs": 5, "target_kl": 1e-6} if name == "ppo_clip" else {}
    config = make_config(**(SMALL | {"algorithm": name, "optimizer": optimizer} | own))
    whole, half = iterations(config, None, 4), iterations(config, None, 2)
    save_checkpoint(Checkpoint(to_yaml(config), half.state(barrier=True), None, None), tmp_path / "last.ckpt")
    read = load_checkpoint(tmp_path / "last.ckpt")
    resumed = iterations(from_yaml(read.config), read.module, 2)
    assert resumed.parameters_vector.vector.equal(whole.parameters_vector.vector)
    for module in (whole, half, resumed):
        module.collector._env.close()


def test_a_checkpoint_from_before_there_was_a_choice_can_be_resumed() -> None:
    config = make_config(**SMALL)
    whole, half = iterations(config, None, 4), iterations(config, None, 2)
    state = half.state(barrier=True)
    del state["algorithm"]
    old = from_yaml(to_yaml(config).replace("  ignores: []\n", ""))
    assert old.algorithm["ignores"] == []  # as its file says
    resumed = iterations(old, state, 2)
    assert resumed.parameters_vector.vector.equal(whole.parameters_vector.vector)
    for module in (whole, half, resumed):
        module.collector._env.close()


def test_the_algorithm_s_defaults_give_way_to_experiments_and_to_the_command_line() -> None:
    assert make_config("algorithm=a2c").rollout_steps == 8
    assert make_config("algorithm=a2c", "experiment=cartpole_fast").rollout_steps == 128
    assert make_config("algorithm=a2c", "experiment=cartpole_fast", "rollout_steps=4").rollout_steps == 4


def test_a_batch_need_not_fit_minibatches_that_nobody_makes() -> None:
    assert make_config("algorithm=a2c", num_envs=5, rollout_steps=5).batch_size == 25
    with pytest.raises(ConfigError, match="minibatch_size=64"):
        make_config("algorithm=vpg", num_envs=5, rollout_steps=5)


def test_what_belongs_to_an_unread_setting_is_refused_too() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr=0\.1: algorithm=still does not read"):
        refuse_unread({"name": "still", "ignores": ["optimizer"]}, {"seed": 3, "optimizer.lr": 0.1})
    refuse_unread({"name": "still", "ignores": ["clip"]}, {"clipping": 1})


def test_a_run_and_what_may_not_change_when_it_is_resumed(tmp_path: Path) -> None:
    answer = train(tmp_path, *RUN, "algorithm=ppo_penalty", "epochs=2")
    assert answer.code == 0, answer.err
    (run,) = run_folders(tmp_path)
    betas = [row["policy/beta"] for row in metric_rows(run) if row.get("policy/beta")]
    assert len(betas) >= 9 and betas[0] == "1.0"
    assert_one_line(
        train(tmp_path, f"resume={run}", "algorithm=trpo"), "another run", "algorithm.name ppo_penalty -> trpo"
    )
    assert_one_line(train(tmp_path, f"resume={run}", "clip=0.2"), "clip=0.2", "algorithm=ppo_penalty", "does not read")
    more = train(tmp_path, f"resume={run}", "total_steps=1280")
    assert more.code == 0, more.err


def test_settings_of_an_experiment_that_the_algorithm_does_not_read_are_told(tmp_path: Path) -> None:
    answer = train(tmp_path, *RUN, "experiment=table1/no_clipping", "algorithm=trpo")
    assert answer.code == 0, answer.err
    told = "algorithm=trpo does not read target_kl=null, recompute_advantages=false, which the chosen files set"
    assert told in answer.out + answer.err
    assert "does not read" not in train(tmp_path, *RUN, "algorithm=trpo").err


@pytest.mark.parametrize("name", ["a2c", "trpo"])
def test_other_algorithms_run_from_the_command_line(name: str, tmp_path: Path) -> None:
    answer = train(tmp_path, *RUN, f"algorithm={name}")
    assert answer.code == 0, answer.err
    (run,) = run_folders(tmp_path)
    fractions = [row["policy/step_fraction"] for row in metric_rows(run) if row.get("policy/step_fraction")]
    assert bool(fractions) == (name == "trpo")


def code_in_the_page(language: str, name: str) -> str:
    text = (ROOT / "docs" / "algorithms.md").read_text()
    (block,) = [code for code in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if name in code]
    return block


OWN_METRIC = """

class Measured(Learner):
    def update(self, *arguments):
        from dataclasses import replace
        return replace(super().update(*arguments), extras={"policy/width": 0.2})


def make(context: LearnerContext) -> Learner:
    return Measured(context, lambda parameters, log_ratio, batch: log_ratio * batch.advantages)
"""


def test_the_new_algorithm_of_the_documentation_works_as_written(tmp_path: Path) -> None:
    """Two files more in a copy of the program."""
    for folder in ("src", "conf", "sweeps"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/ppolab/learning/algorithms/spo.py").write_text(code_in_the_page("python", "algorithms/spo.py"))
    (tmp_path / "conf/algorithm/spo.yaml").write_text(code_in_the_page("yaml", "algorithm/spo.yaml"))
    command = (sys.executable, tmp_path / "src" / TRAIN.name, *RUN, "algorithm=spo")
    answer = run_command(tmp_path, (*command, "algorithm.width=0.1"))
    assert answer.code == 0, answer.err
    assert_one_line(run_command(tmp_path, (*command, "clip=0.1")), "clip=0.1", "algorithm=spo", "does not read")
    assert_one_line(run_command(tmp_path, (*command, "algorithm.width=wide")), "algorithm.width=wide", "a number")
    own = tmp_path / "src/ppolab/learning/algorithms/spo.py"
    own.write_text(own.read_text() + OWN_METRIC)
    answer = run_command(tmp_path, command)
    assert (answer.code, answer.err.count("ppolab: policy/width: no metric of this run")) == (2, 1), answer.err
    described = tmp_path / "conf/algorithm/spo.yaml"
    described.write_text(described.read_text().replace("  ignores:", "  metrics: [policy/width]\n  ignores:"))
    answer = run_command(tmp_path, (*command, "objective=policy/width"))
    assert answer.code == 0, answer.err
    assert metric_rows(run_folders(tmp_path)[-1])[-2]["policy/width"] == "0.2"
    run = run_folders(tmp_path)[0]
    assert "name: spo" in (run / "config.yaml").read_text()
