"""A network and an optimizer of one's own: files in a folder, and nothing else."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from commands import ROOT, TRAIN, assert_one_line, run_command, run_folders, train

RUN = (
    "env=cartpole", "num_envs=4", "rollout_steps=16", "minibatch_size=32", "total_steps=128", "eval_episodes=2",
    "eval_interval=0", "logger=none",
)  # fmt: skip
WIDE = "# Wider than mlp.\ndefaults: [mlp]\nhidden_sizes: [24, 24]\n"
ADAGRAD = "_target_: torch.optim.Adagrad\nlr: 1.0e-2\nlr_decay: 0.0 # how the learning rate falls\n"
CAUTIOUS = """
# @package _global_
# PPO that clips twice as tightly as it is told
algorithm:
  name: cautious
  tightness: 2.0 # the clip range is divided by this
  ignores: []
  ranges: {tightness: ">= 1"}
"""
CAUTIOUS_MODULE = '''
"""PPO that clips more tightly than it is told."""

from dataclasses import replace

from ppolab.learning.algorithms import ppo_clip


def make(context):
    tightness = context.config.algorithm["tightness"]
    config = replace(context.config, clip=context.config.clip / tightness, algorithm=PLAIN)
    return ppo_clip.make(replace(context, config=config))


PLAIN = {"name": "ppo_clip", "value_clip": None, "anneal_clip": False, "value_epochs": None, "ignores": []}
'''

SPO_MODULE = """
from ppolab.learning import Learner

def spo(context, *, width=0.2):
    def surrogate(parameters, log_ratio, batch):
        ratio, advantages = log_ratio.exp(), batch.advantages
        return ratio * advantages - advantages.abs() / (2 * width) * (ratio - 1).square()

    return Learner(context, surrogate)
"""
SPO_SEARCH = """
# @package _global_
defaults:
  - override /algorithm: my_package:spo
hydra:
  sweeper:
    params:
      algorithm.width: interval(0.05, 0.5)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for --config-dir."""
    for group, name, text in (("model", "wide", WIDE), ("optimizer", "adagrad", ADAGRAD)):
        file = tmp_path / "mine" / group / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path / "mine"


def test_files_in_a_folder_make_a_network_and_an_optimizer(own: Path, tmp_path: Path) -> None:
    chosen = (f"--config-dir={own}", "model=wide", "optimizer=adagrad")
    answer = train(tmp_path, *chosen, *RUN)
    assert answer.code == 0, answer.err
    config = yaml.safe_load((run_folders(tmp_path)[0] / "config.yaml").read_text())
    assert config["optimizer"] == {"_target_": "torch.optim.Adagrad", "lr": 0.01, "lr_decay": 0.0}
    assert config["model"]["trunk"] == "separate"
    assert_one_line(train(tmp_path, *chosen, "model.dropout=1"), "model.dropout=1", "less than 1")
    assert_one_line(train(tmp_path, *chosen, "optimizer.lr=0"), "optimizer.lr=0", "greater than 0")


def test_files_in_a_clone_make_every_kind_of_option(own: Path, tmp_path: Path) -> None:
    for folder in ("src", "conf", "sweeps"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(own, tmp_path / "conf", dirs_exist_ok=True)
    (tmp_path / "conf/algorithm/cautious.yaml").write_text(CAUTIOUS)
    (tmp_path / "src/ppolab/learning/algorithms/cautious.py").write_text(CAUTIOUS_MODULE)
    command = (sys.executable, tmp_path / "src" / TRAIN.name, "model=wide", "optimizer=adagrad", "algorithm=cautious")
    page = run_command(tmp_path, (*command, "--help", "all")).out
    for line in (
        "model=wide: the network",
        "model.hidden_sizes=[24,24]          units of each hidden layer (list of whole numbers, >= 1)",
        "optimizer.lr_decay=0.0              how the learning rate falls (number)",
        "algorithm.tightness=2.0             the clip range is divided by this (number, >= 1)",
    ):
        assert f"\n{line}\n" in page
    mistakes = {
        "optimizer.lr_dekay=1": ("optimizer.lr_dekay", "'optimizer.lr_decay'"),
        "optimizer.lr_decay=fast": ("optimizer.lr_decay=fast", "must be a number"),
        "algorithm.tightness=0.5": ("algorithm.tightness=0.5", "1 or more"),
        "algorithm.tightnes=3": ("algorithm.tightnes", "'algorithm.tightness'"),
    }
    for argument, expected in mistakes.items():
        assert_one_line(run_command(tmp_path, (*command, argument)), *expected)
    answer = run_command(tmp_path, (*command, *RUN))
    assert answer.code == 0, answer.err
    config = yaml.safe_load((run_folders(tmp_path)[0] / "config.yaml").read_text())
    assert config["model"]["hidden_sizes"] == [24, 24]
    assert config["algorithm"] == {"name": "cautious", "tightness": 2.0, "ignores": []}


def test_a_search_file_chooses_an_algorithm_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "my_package.py").write_text(SPO_MODULE)
    (tmp_path / "sweeps/search").mkdir(parents=True)
    (tmp_path / "sweeps/search/spo.yaml").write_text(SPO_SEARCH)
    answer = train(tmp_path, "-m", "search=spo", "n_trials=2", *RUN)
    assert answer.code == 0, answer.err
    again = next(line for line in answer.out.splitlines() if line.startswith("train it"))
    assert "algorithm=my_package:spo" in again
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in run_folders(tmp_path)]
    assert [config["algorithm"]["name"] for config in configs] == ["my_package:spo"] * 2
    assert len({config["algorithm"]["width"] for config in configs}) == 2
