"""Losses and steps written out as textbooks have them, for comparison."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from helpers import (
    make_collector,
    make_env,
    make_learner,
    make_policy,
    textbook_advantages,
    tiny_config,
)
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.func import functional_call

from ppolab.config.schema import Config
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.interface import UpdateStats
from ppolab.learning.rollout import Rollout


@dataclasses.dataclass
class Textbook:
    """What the losses are made of, by torch.distributions; rows [B] of the valid samples."""

    log_probs: Tensor
    old_log_probs: Tensor
    kl: Tensor
    entropy: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


def textbook(policy: ActorCritic, named: dict[str, Tensor], rollout: Rollout, config: Config) -> Textbook:
    valid = rollout.valid
    parameters, values = functional_call(policy, named, (rollout.observations[:-1][valid],))
    old, new = (distribution_of(policy, each) for each in (rollout.parameters[valid], parameters))
    actions = rollout.actions[valid] if policy.log_std is not None else rollout.actions[valid][:, 0]
    advantages = textbook_advantages(rollout, rollout.values, config).double()
    return Textbook(
        new.log_prob(actions), old.log_prob(actions), kl_divergence(old, new), new.entropy(), values,
        advantages[valid], (advantages + rollout.values[:-1])[valid],
    )  # fmt: skip


def distribution_of(policy: ActorCritic, parameters: Tensor) -> torch.distributions.Distribution:
    if policy.log_std is None:
        return Categorical(logits=parameters)
    mean, log_std = parameters.chunk(2, -1)
    return Independent(Normal(mean, log_std.exp()), 1)


def updates_on(env_id: str, iterations: int, **settings: Any) -> list[tuple[UpdateStats, float, float, float]]:
    """(statistics, exact KL, surrogate before, surrogate after), the last three by torch.distributions."""
    config = tiny_config(env_id, num_envs=8, rollout_steps=64, minibatch_size=64, **settings)
    env = make_env(config)
    policy = make_policy(config, env)
    collector = make_collector(config, env)
    learner, _ = make_learner(policy, config)
    results = []
    for _ in range(iterations):
        rollout = collector.collect(policy)
        before = textbook(policy, dict(policy.named_parameters()), rollout, config)
        stats = learner.update(rollout, rollout.rewards)
        after = textbook(policy, dict(policy.named_parameters()), rollout, config)
        ratio = (after.log_probs - after.old_log_probs).exp()
        gains = before.advantages.mean(), (ratio * before.advantages).mean()
        results.append((stats, after.kl.mean().item(), *(gain.item() for gain in gains)))
    env.close()
    return results
