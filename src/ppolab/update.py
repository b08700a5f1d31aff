"""One policy update: every epoch of minibatch steps on one rollout."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value

from ppolab.config import Config
from ppolab.core.gae import generalized_advantages
from ppolab.core.kl import kl_k3
from ppolab.core.losses import (
    clipped_surrogate,
    clipped_value_error,
    explained_variance,
    is_clipped,
    squared_value_error,
    standardized,
    weighted_mean,
)
from ppolab.parameters import FlatParameters, clip_norm
from ppolab.policy import ActorCritic
from ppolab.rollout import Rollout

log = logging.getLogger(__name__)

KL_TOLERANCE = 1.5
"""An update ends once the mean KL of an epoch exceeds this many times target_kl."""


class Samples(NamedTuple):
    """Flat experience; each tensor has B rows, or [minibatches, B] after shuffling."""

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor


class LossTerms(NamedTuple):
    """Minibatch means, except that `kl_sum` and `samples` are sums over its samples."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    clip_fraction: Tensor
    kl_sum: Tensor
    samples: Tensor


Gradient = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class UpdateStats:
    """Means over the update's minibatch steps; `kl` over the last epoch's samples, `epochs` how many were made."""

    policy_loss: float
    value_loss: float
    entropy: float
    clip_fraction: float
    kl: float
    epochs: int
    steps: int
    gradient_norm: float
    explained_variance: float


def minibatch_loss(policy: ActorCritic, flat: FlatParameters, config: Config) -> Callable[..., tuple[Tensor, Tensor]]:
    """The function (vector [P], minibatch) -> (scalar loss, LossTerms as one tensor), pure in the vector."""
    distribution = policy.distribution
    value_clip = config.algorithm.value_clip

    def loss(vector: Tensor, batch: Samples) -> tuple[Tensor, Tensor]:
        parameters, values = functional_call(policy, flat.named(vector), (batch.observations,))
        log_ratio = distribution.log_prob(parameters, batch.actions) - batch.log_probs
        advantages = batch.advantages
        if config.normalize_advantages:
            advantages = standardized(advantages, batch.weights)
        surrogate = weighted_mean(clipped_surrogate(log_ratio, advantages, config.clip), batch.weights)
        if value_clip is None:
            errors = squared_value_error(values, batch.returns)
        else:
            errors = clipped_value_error(values, batch.values, batch.returns, value_clip)
        value_error = weighted_mean(errors, batch.weights)
        entropy = weighted_mean(distribution.entropy(parameters), batch.weights)
        total = -surrogate + config.value_coef * value_error - config.entropy_coef * entropy
        clipped = weighted_mean(is_clipped(log_ratio, config.clip).to(values.dtype), batch.weights)
        kl_sum = (kl_k3(log_ratio) * batch.weights).sum()
        terms = LossTerms(-surrogate, value_error, entropy, clipped, kl_sum, batch.weights.sum())
        return total, torch.stack(terms).detach()

    return loss


def gradient_function(policy: ActorCritic, flat: FlatParameters, config: Config, *, compiled: bool) -> Gradient:
    """(vector [P], *minibatch) -> (gradient [P], LossTerms as one tensor).

    Compiled, the first call traces forward and backward into one graph for its shapes. The graph is compiled and called
    directly: `torch.compile` would check its guards at every call, which costs as much as the arithmetic.
    """
    differentiated = grad_and_value(minibatch_loss(policy, flat, config), has_aux=True)

    def gradient(vector: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        result, (_, terms) = differentiated(vector, Samples(*batch))
        return result, terms

    return compiled_on_first_call(gradient) if compiled else gradient


def compiled_on_first_call(function: Gradient) -> Gradient:
    """`function` as compiled code for the shapes of its first call, which the caller never changes.

    Where compiling fails (no working C++ compiler, say), `function` itself, and one warning.
    """
    code: list[Gradient] = []

    def call(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        if not code:
            code.append(_compiled(function, arguments))
        return code[0](*arguments)

    return call


def _compiled(function: Gradient, arguments: tuple[Tensor, ...]) -> Gradient:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own deprecations, which must not stop it
            import torch._inductor  # a second or two that a run without compiling need not wait
            from torch.fx.experimental.proxy_tensor import make_fx

            graph = make_fx(function)(*arguments)
            compiled: Gradient = torch._inductor.compile(graph, list(arguments))
            compiled(*arguments)
    except Exception as error:  # the compiler and what it calls raise errors of many families
        log.warning("not compiling, updates will be slower: %s", str(error).splitlines()[0])
        return function
    return compiled


def advantage_samples(rollout: Rollout, values: Tensor, rewards: Tensor, config: Config) -> Samples:
    """The valid rows of a rollout, flat, with advantages under `values` [T+1, N] and scaled `rewards` [T, N]."""
    advantages = generalized_advantages(
        rewards, values, rollout.terminated, rollout.truncated, gamma=config.gamma, gae_lambda=config.gae_lambda
    )
    valid = rollout.valid
    returns = (advantages + values[:-1])[valid]
    return Samples(
        rollout.observations[:-1][valid],
        rollout.actions[valid],
        rollout.log_probs[valid],
        rollout.values[:-1][valid],
        advantages[valid],
        returns,
        torch.ones_like(returns),
    )


def minibatches(samples: Samples, size: int, generator: torch.Generator) -> Iterator[Samples]:
    """Every sample exactly once, in random order, in ceil(B / size) minibatches of nearly equal count.

    All have `size` rows, because a compiled function wants one shape; rows that repeat a sample to get there weigh 0.
    """
    count = samples.weights.shape[0]
    batches = -(-count // size)
    order = torch.randperm(count, generator=generator)
    rows = torch.zeros((batches, size), dtype=torch.int64)
    weights = torch.zeros((batches, size))
    for index, part in enumerate(order.tensor_split(batches)):
        rows[index, : len(part)] = part
        weights[index, : len(part)] = 1.0
    flat_rows = rows.view(-1).to(samples.weights.device)
    shuffled = Samples(*(tensor[flat_rows].view(batches, size, *tensor.shape[1:]) for tensor in samples))
    shuffled = shuffled._replace(weights=weights.to(samples.weights.device))
    return (Samples(*parts) for parts in zip(*shuffled, strict=True))


class Learner:
    """A policy, its flat parameters, and what turns a rollout into better ones."""

    def __init__(
        self,
        policy: ActorCritic,
        flat: FlatParameters,
        optimizer: torch.optim.Optimizer,
        config: Config,
        generator: torch.Generator,
        *,
        compiled: bool,
    ) -> None:
        self._policy = policy
        self._flat = flat
        self._optimizer = optimizer
        self._config = config
        self._generator = generator
        self._gradient = gradient_function(policy, flat, config, compiled=compiled)

    def update(self, rollout: Rollout, rewards: Tensor) -> UpdateStats:
        """Up to `epochs` passes over the rollout, fewer when the policy has moved far enough (KL early stopping).

        Args:
            rewards: [T, N] the rollout's rewards, scaled.
        """
        config = self._config
        samples = advantage_samples(rollout, rollout.values, rewards, config)
        variance = explained_variance(samples.values, samples.returns)
        all_terms: list[Tensor] = []
        norms: list[Tensor] = []
        self._policy.train()
        for epoch in range(1, config.epochs + 1):
            if epoch > 1 and config.recompute_advantages:
                samples = advantage_samples(rollout, self._values(rollout.observations), rewards, config)
            terms = [self._step(batch, norms) for batch in minibatches(samples, config.minibatch_size, self._generator)]
            all_terms += terms
            epoch_terms = LossTerms(*torch.stack(terms).sum(0).tolist())
            kl = float(epoch_terms.kl_sum / epoch_terms.samples)
            if config.target_kl is not None and kl > KL_TOLERANCE * config.target_kl:
                break
        means = LossTerms(*torch.stack(all_terms).mean(0).tolist())
        return UpdateStats(
            policy_loss=float(means.policy),
            value_loss=float(means.value),
            entropy=float(means.entropy),
            clip_fraction=float(means.clip_fraction),
            kl=kl,
            epochs=epoch,
            steps=len(all_terms),
            gradient_norm=float(torch.stack(norms).mean()),
            explained_variance=float(variance),
        )

    def _step(self, batch: Samples, norms: list[Tensor]) -> Tensor:
        """One gradient step; returns its loss terms as a tensor and appends the gradient's norm."""
        gradient, terms = self._gradient(self._flat.vector.detach(), *batch)
        self._flat.vector.grad, norm = clip_norm(gradient, self._config.max_grad_norm)
        norms.append(norm)
        self._optimizer.step()
        return terms

    @torch.no_grad()
    def _values(self, observations: Tensor) -> Tensor:
        self._policy.eval()
        values = self._policy.values(observations)
        self._policy.train()
        return values
