"""A stored policy comes back with its spaces, and loading it leaves the caller's random state alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import tiny_config

from ppolab.agents.policy import check_choices, fresh_policy, policy_from
from ppolab.agents.trained_policy import load_policy
from ppolab.errors import CheckpointError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import FoundRun, RunFolder
from ppolab.training.run import run
from ppolab.training.warm_start import warm_start


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> FoundRun:
    folder = tmp_path_factory.mktemp("run")
    run(tiny_config("CartPole-v1", total_steps=96, eval_episodes=1, logger="none"), folder)
    return FoundRun(RunFolder(folder), RunFolder(folder).checkpoint("last"))


def test_parameters_spaces_and_steps_are_those_of_the_run(stored: FoundRun) -> None:
    trained = load_policy(stored)
    expected = load_checkpoint(stored.checkpoint).module
    for name, tensor in trained.policy.state_dict().items():
        assert torch.equal(tensor, expected["policy"][name]), name
    assert trained.steps == expected["steps"]
    with gymnasium.make("CartPole-v1") as env:
        assert trained.observation_space == env.observation_space
        assert trained.action_space == env.action_space


def test_loading_leaves_the_global_generator_alone(stored: FoundRun) -> None:
    before = torch.get_rng_state()
    load_policy(stored)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("inside", [False, True])
def test_whole_numbers_that_were_no_choices_are_refused(inside: bool, stored: FoundRun) -> None:
    whole: spaces.Space[Any] = spaces.Box(0, 3, (2,), np.int32)
    actions = spaces.Dict(arm=whole) if inside else whole
    now, config = load_checkpoint(stored.checkpoint), tiny_config("CartPole-v1")
    before = replace(now, module={key: value for key, value in now.module.items() if key != "choices"})
    where = " in its part arm" if inside else ""
    with pytest.raises(CheckpointError) as raised:
        policy_from(before, config, spaces.Box(-1, 1, (4,)), actions)
    assert str(raised.value) == (
        "the checkpoint is of an earlier ppolab, for which the whole numbers of the action Box(0, 3, (2,), int32)"
        f"{where} were no choices; train again, or use it with that version"
    )
    with pytest.raises(CheckpointError, match="were no choices"):
        warm_start(config, fresh_policy(config, spaces.Box(-1, 1, (4,)), actions), actions, resumed=before)
    check_choices(now, actions)
    check_choices(before, spaces.Discrete(2))


def test_a_checkpoint_of_another_network_is_refused(stored: FoundRun) -> None:
    text = stored.folder.config.read_text()
    stored.folder.config.write_text(text.replace("trunk: separate", "trunk: shared"))
    try:
        with pytest.raises(CheckpointError, match=r"does not fit CartPole-v1 and its model settings"):
            load_policy(stored)
    finally:
        stored.folder.config.write_text(text)
