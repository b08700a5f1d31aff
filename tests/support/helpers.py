"""Parts of a run built from the shipped defaults, for tests that need less than the whole program."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from ppolab.config.files import config_folder
from ppolab.config.loading import from_hydra
from ppolab.config.schema import Config, register_schemas
from ppolab.core.distributions import ActionDistribution
from ppolab.core.moments import no_samples
from ppolab.envs.factory import VectorEnv, choose_backend, environment_seeds, make_vector_env
from ppolab.learning.actor_critic import ActorCritic, action_distribution, evaluating
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.algorithms.ppo_clip import clipping
from ppolab.learning.flat_parameters import FlatParameters, flatten_parameters
from ppolab.learning.interface import Algorithm, LearnerContext, UpdateStats
from ppolab.learning.native import native_policy
from ppolab.learning.normalization import RunningScale
from ppolab.learning.objective import Objective, actor_critic_objective
from ppolab.learning.optimizer import make_optimizer
from ppolab.learning.rollout import Rollout
from ppolab.training.collector import Collector

GROUPS = {path.name for path in config_folder("conf").iterdir() if path.is_dir()}


def make_config(*overrides: str, **settings: Any) -> Config:
    """The shipped configuration with changes, checked as the command line checks it.

    `make_config("env=cartpole", num_envs=4, **{"model.dropout": 0.1})`: what Hydra would take, and values by name.
    """
    groups = {key: value for key, value in settings.items() if key in GROUPS}
    node = copy.deepcopy(_composed((*overrides, *(f"{key}={value}" for key, value in groups.items()))))
    for key, value in settings.items():
        if key not in groups:
            plain = list(value) if isinstance(value, tuple) else value
            OmegaConf.update(node, key.lstrip("+"), plain, force_add=True)
    return from_hydra(node)


@lru_cache(maxsize=256)
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """Composing takes a third of a second."""
    register_schemas()
    with initialize_config_dir(config_dir=str(config_folder("conf").resolve()), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def tiny_config(env_id: str, **settings: Any) -> Config:
    """A few environments, a small network, no scaling, eager: for one iteration in milliseconds."""
    small: dict[str, Any] = {
        "env.id": env_id, "env.backend": "gymnasium", "model.hidden_sizes": [16], "num_envs": 4, "rollout_steps": 8,
        "minibatch_size": 16, "epochs": 2, "total_steps": 1000, "target_kl": None, "compile": "false",
        "normalize_observations": False, "normalize_rewards": False, "anneal_lr": False,
    }  # fmt: skip
    kwargs = settings.pop("env_kwargs", None)
    if kwargs is not None:
        small["+env.kwargs" if kwargs else "env.kwargs"] = kwargs
    return make_config(**(small | settings))


def make_env(config: Config) -> VectorEnv:
    """The vector environment that a run would step."""
    seeds = environment_seeds(config.seed, 0, config.num_envs)
    return make_vector_env(config.env, seeds, choose_backend(config.env))


def make_policy(config: Config, env: VectorEnv) -> ActorCritic:
    """The network that a run would train, from `config.seed`."""
    torch.manual_seed(config.seed)
    distribution = action_distribution(env.policy_space)
    policy = ActorCritic(env.layout, distribution, config.model, normalize=config.normalize_observations)
    policy.masked = env.masks is not None
    return policy


def make_learner(
    policy: ActorCritic, config: Config, *, seed: int = 0, native: bool = False
) -> tuple[Algorithm, FlatParameters]:
    """The configured algorithm for `policy`, which is flattened here, and its parameters; eager, or in C++."""
    context = make_context(policy, config, seed=seed, native=native)
    return make_algorithm(context), context.flat


def make_context(policy: ActorCritic, config: Config, *, seed: int = 0, native: bool = False) -> LearnerContext:
    """What an algorithm for `policy` works with; it is flattened here."""
    flat = flatten_parameters(policy)
    optimizer = make_optimizer(config, flat)
    generator = torch.Generator().manual_seed(seed)
    code = native_policy(policy, flat) if native else None
    assert (code is not None) == native
    return LearnerContext(policy, flat, optimizer, config, generator, native=code)


def ppo_objective(policy: ActorCritic, config: Config) -> Objective:
    """What `algorithm=ppo_clip` minimizes."""
    return actor_critic_objective(policy.distribution, config, clipping(config.clip))


def drawn(family: ActionDistribution, parameters: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """One action per row of parameters."""
    return family.sample(parameters, family.noise(parameters.shape[:-1], torch.Generator().manual_seed(seed)))


def make_collector(config: Config, env: VectorEnv, seed: int = 0) -> Collector:
    """A collector of `env`, which is reset here."""
    length = min(config.sequence_length, config.rollout_steps)
    generator = torch.Generator().manual_seed(seed)
    return Collector(env, config.rollout_steps, config.gamma, generator, sequence_length=length)


def random_rollout(
    policy: ActorCritic,
    observation_size: int,
    *,
    steps: int = 8,
    envs: int = 4,
    seed: int = 0,
    ends: float = 0.15,
    values: bool = True,
) -> Rollout:
    """Made-up experience, consistent with `policy` and with NEXT_STEP resets.

    Episodes end at random, by termination or truncation. `values=False` makes up the values, too.
    """
    rng = torch.Generator().manual_seed(seed)
    observations = torch.randn((steps + 1, envs, observation_size), generator=rng)
    with torch.no_grad(), evaluating(policy):
        parameters, predicted = policy(observations)
    actions = policy.distribution.sample(parameters[:-1], policy.distribution.noise((steps, envs), rng))
    valid = torch.ones((steps, envs), dtype=torch.bool)
    terminated, truncated = torch.zeros_like(valid), torch.zeros_like(valid)
    for t in range(steps):
        if t > 0:
            valid[t] = ~(terminated[t - 1] | truncated[t - 1])
        ended = (torch.rand(envs, generator=rng) < ends) & valid[t]
        by_time = torch.rand(envs, generator=rng) < 0.5
        terminated[t], truncated[t] = ended & ~by_time, ended & by_time
    rewards = torch.randn((steps, envs), generator=rng) * valid
    with torch.no_grad():
        log_probs = policy.distribution.log_prob(parameters[:-1], actions)
    if not values:
        predicted = torch.randn((steps + 1, envs), generator=rng)
    return Rollout(
        observations, actions, parameters[:-1], log_probs, predicted, rewards, terminated, truncated, valid,
        no_samples((observation_size,)), no_samples(()), [],
    )  # fmt: skip


def textbook_advantages(rollout: Rollout, values: torch.Tensor, config: Config) -> torch.Tensor:
    """Equation 16 of Schulman et al. 2016, step by step, backwards."""
    steps, envs = rollout.rewards.shape
    advantages = torch.zeros((steps, envs))
    for env in range(envs):
        following = 0.0
        for t in reversed(range(steps)):
            ended, truncated = bool(rollout.terminated[t, env]), bool(rollout.truncated[t, env])
            bootstrap = 0.0 if ended else config.gamma * values[t + 1, env]
            carried = 0.0 if ended or truncated else config.gamma * config.gae_lambda * following
            following = rollout.rewards[t, env] + bootstrap - values[t, env] + carried
            advantages[t, env] = following
    return advantages


@dataclass
class Trained:
    """What a short training left behind."""

    policy: ActorCritic
    env: VectorEnv
    stats: list[UpdateStats]
    rollout: Rollout

    def value(self, *observation: float) -> float:
        """The critic's value of one raw observation."""
        with torch.no_grad(), evaluating(self.policy):
            return float(self.policy.values(self._input(observation)))

    def parameters(self, *observation: float) -> torch.Tensor:
        """The action distribution's parameters at one raw observation."""
        with torch.no_grad(), evaluating(self.policy):
            return self.policy.action_parameters(self._input(observation))

    def _input(self, observation: tuple[float, ...]) -> torch.Tensor:
        return torch.from_numpy(self.policy.observation_scale.frozen()(np.array(observation, dtype=np.float64)))


def train(config: Config, iterations: int, *, native: bool = False) -> Trained:
    """Iterations of collect, scale, update, merge: a run without the trainer around it; eager, or in C++."""
    env = make_env(config)
    policy = make_policy(config, env)
    collector = make_collector(config, env, seed=1)
    context = make_context(policy, config, seed=2, native=native)
    learner = make_algorithm(context)
    reward_scale = RunningScale((), enabled=config.normalize_rewards)
    stats = []
    for _ in range(iterations):
        rollout = collector.collect(policy, context.native)
        reward_scale.merge(rollout.return_moments)
        stats.append(learner.update(rollout, reward_scale.scale_rewards(rollout.rewards)))
        policy.observation_scale.merge(rollout.observation_moments)
    env.close()
    return Trained(policy, env, stats, rollout)
