"""Losses and steps written out as textbooks have them, for comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
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
from ppolab.core.distributions import ActionDistribution, DiagonalGaussian, Joint
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
    old, new = (distributions_of(policy, each) for each in (rollout.parameters[valid], parameters))
    chosen = actions_of(policy, rollout.actions[valid])
    advantages = textbook_advantages(rollout, rollout.values, config).double()
    return Textbook(
        added(part.log_prob(actions) for part, actions in zip(new, chosen, strict=True)),
        added(part.log_prob(actions) for part, actions in zip(old, chosen, strict=True)),
        added(kl_divergence(*pair) for pair in zip(old, new, strict=True)),
        added(part.entropy() for part in new),
        values, advantages[valid], (advantages + rollout.values[:-1])[valid],
    )  # fmt: skip


def added(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum(0)


def parts_of_policy(policy: ActorCritic) -> tuple[ActionDistribution, ...]:
    """One Gaussian, one choice, or several of them that are independent."""
    return policy.distribution.parts if isinstance(policy.distribution, Joint) else (policy.distribution,)


def distributions_of(policy: ActorCritic, parameters: Tensor) -> list[torch.distributions.Distribution]:
    parts = parts_of_policy(policy)
    found: list[torch.distributions.Distribution] = []
    for part, own in zip(parts, parameters.split([part.parameter_size for part in parts], -1), strict=True):
        if isinstance(part, DiagonalGaussian):
            mean, log_std = own.chunk(2, -1)
            found.append(Independent(Normal(mean, log_std.exp()), 1))
        else:
            found.append(Categorical(logits=own))
    return found


def actions_of(policy: ActorCritic, actions: Tensor) -> list[Tensor]:
    """The actions [B, ...] of each part, as torch.distributions has them."""
    parts = parts_of_policy(policy)
    columns = actions.split([part.action_shape[0] for part in parts], -1)
    pairs = zip(parts, columns, strict=True)
    return [own if isinstance(part, DiagonalGaussian) else own[:, 0] for part, own in pairs]


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
