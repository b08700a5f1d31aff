"""A stored policy comes back with its spaces, and loading it leaves the caller's random state alone."""

from __future__ import annotations

import gymnasium
import pytest
import torch
from helpers import tiny_config

from ppolab.agents.trained_policy import load_policy
from ppolab.errors import CheckpointError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import FoundRun, RunFolder
from ppolab.training.run import run


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


def test_a_checkpoint_of_another_network_is_refused(stored: FoundRun) -> None:
    text = stored.folder.config.read_text()
    stored.folder.config.write_text(text.replace("trunk: separate", "trunk: shared"))
    try:
        with pytest.raises(CheckpointError, match=r"does not fit CartPole-v1 and its model settings"):
            load_policy(stored)
    finally:
        stored.folder.config.write_text(text)
