"""Load the trained policy of a stored run, with all that using it needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gymnasium import Space

from ppolab.agents.policy import policy_from
from ppolab.config.loading import from_yaml
from ppolab.config.schema import Config, EnvConfig
from ppolab.envs.action_masks import as_trained
from ppolab.envs.factory import environment_spaces, policy_space, seen_space
from ppolab.envs.seeding import private_generators
from ppolab.learning.actor_critic import ActorCritic
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import FoundRun


@dataclass(frozen=True)
class TrainedPolicy:
    """Hold a policy and where it comes from.

    Attributes:
        policy: network, action distribution and normaliser, on the CPU and in evaluation mode.
        observation_space, action_space: of one environment, as Gymnasium has them. A mask of actions in the observation
            is no input of the network.
        steps: environment steps that it was trained for.
        run: the folder and the checkpoint that it was read from.
    """

    config: Config
    policy: ActorCritic
    observation_space: Space[Any]
    action_space: Space[Any]
    steps: int
    run: FoundRun

    @property
    def seen_space(self) -> Space[Any]:
        """The space of what the network sees of an observation."""
        return seen_space(self.env, self.observation_space, self.action_space)

    @property
    def policy_space(self) -> Space[Any]:
        """The space that the policy chooses from."""
        return policy_space(self.env, self.observation_space, self.action_space)

    @property
    def env(self) -> EnvConfig:
        """The environment as the policy plays it."""
        return as_trained(self.config.env, masked=self.policy.masked)


def load_policy(run: FoundRun) -> TrainedPolicy:
    """Load the policy of a checkpoint.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is of another network or another task.
        ConfigError: the environment cannot be made here.
    """
    config = from_yaml(run.folder.config.read_text())
    with private_generators(config.seed):  # an environment may draw from the global ones when it is made
        observations, actions = environment_spaces(config.env)
    checkpoint = load_checkpoint(run.checkpoint)
    policy = policy_from(checkpoint, config, observations, actions).eval()
    return TrainedPolicy(config, policy, observations, actions, checkpoint.module["steps"], run)
