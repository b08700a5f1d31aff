"""Algorithms that fit the value function by itself and move the policy in one step on the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ppolab.core.losses import unclipped_surrogate
from ppolab.core.trust_region import Product, fisher_vector_product
from ppolab.epoch import Order, with_standardized_advantages
from ppolab.objective import Samples, Surrogate
from ppolab.parameters import Part
from ppolab.policy import ActorCritic
from ppolab.rollout import Rollout
from ppolab.update import Experience, Parts, UpdateStats, actor_of, shared_facts
from ppolab.value_function import ValueFunction


@dataclass(frozen=True)
class Step:
    """Where a step of the policy ends.

    Attributes:
        vector: [K] the actor's new parameters. gradient_norm: of the objective's gradient, before any clipping.
        extras: metrics that only this algorithm has.
    """

    vector: Tensor
    gradient_norm: float
    extras: dict[str, float] = field(default_factory=dict)


class ActorOnBatch:
    """Means over a whole batch, of all processes, as functions of the actor's parameters [K].

    A quantity is a function of (distribution parameters [B, P], log-ratio [B], samples) with values [B].
    """

    def __init__(self, parts: Parts, actor: Part, samples: Samples) -> None:
        self._actor = actor
        self._module = _ActorAlone(parts.policy)
        self._distribution = parts.policy.distribution
        self._samples = samples
        self._processes = parts.processes
        self._count = parts.processes.add_up(samples.weights.sum())

    def share(self, quantity: Surrogate, vector: Tensor) -> Tensor:
        """What this process's samples add to the mean; differentiable."""
        return self._shares((quantity,), vector)[0]

    @torch.no_grad()
    def means(self, vector: Tensor, *quantities: Surrogate) -> list[float]:
        """The mean of each."""
        shares: list[float] = self._processes.add_up(self._shares(quantities, vector)).tolist()
        return shares

    def gradient(self, quantity: Surrogate, vector: Tensor) -> Tensor:
        """[K] of the mean."""
        point = vector.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.share(quantity, point), point)
        return self._processes.add_up(slope.contiguous())

    def fisher(self, vector: Tensor) -> Product:
        """The Fisher matrix [K, K] of the policy that collected the batch, whose parameters `vector` are."""
        product = fisher_vector_product(partial(self.share, self.divergence), vector)
        return lambda direction: self._processes.add_up(product(direction).contiguous())

    def surrogate(self, _parameters: Tensor, log_ratio: Tensor, samples: Samples) -> Tensor:
        """A quantity: Schulman et al. 2015 (arXiv:1502.05477), equation 14."""
        return unclipped_surrogate(log_ratio, samples.advantages)

    def divergence(self, parameters: Tensor, _log_ratio: Tensor, samples: Samples) -> Tensor:
        """A quantity: exact KL(collecting policy || this one)."""
        return self._distribution.kl(samples.parameters, parameters)

    def entropy(self, parameters: Tensor, _log_ratio: Tensor, _samples: Samples) -> Tensor:
        """A quantity."""
        return self._distribution.entropy(parameters)

    def _shares(self, quantities: tuple[Surrogate, ...], vector: Tensor) -> Tensor:
        named = {f"policy.{name}": part for name, part in self._actor.named(vector).items()}
        parameters = functional_call(self._module, named, (self._samples.observations,))
        log_ratio = self._distribution.log_prob(parameters, self._samples.actions) - self._samples.log_probs
        values = [quantity(parameters, log_ratio, self._samples) for quantity in quantities]
        return torch.stack([value.sum() for value in values]) / self._count


PolicyStep = Callable[[ActorOnBatch, Tensor], Step]
"""(batch, the actor's parameters [K], which collected it) -> where they should be."""


class SeparateLearner:
    """Epochs of minibatches for the value function, then `step` for the policy, in evaluation mode.

    Both see the advantages of the value function that the rollout was collected with. `optimizer`: one that `step`
    has besides, and whose state must be kept.
    """

    def __init__(self, parts: Parts, step: PolicyStep, optimizer: torch.optim.Optimizer | None = None) -> None:
        self._parts = parts
        self._step = step
        self._optimizer = optimizer
        self._actor = actor_of(parts)
        self._value_function = ValueFunction(parts, parts.config.algorithm["value_epochs"])

    def update(self, rollout: Rollout, rewards: Tensor, _progress: float = 0.0, /) -> UpdateStats:
        """Change all parameters.

        Args:
            rewards: [T, N] the rollout's rewards, scaled.
        """
        parts = self._parts
        samples = Experience(rollout, rewards, rollout.values, parts.config).samples(rollout.values)
        owners, variance = shared_facts(rollout, samples, parts.processes)
        value_loss = self._value_function.fit(samples, owners)

        if parts.config.normalize_advantages:
            mine = torch.tensor([len(samples.weights)])
            order = Order(torch.arange(len(samples.weights)), mine, torch.tensor([len(owners)]))
            samples = with_standardized_advantages(samples, order, parts.processes)
        parts.policy.eval()
        batch = ActorOnBatch(parts, self._actor, samples)
        step = self._step(batch, self._actor.read())
        self._actor.write(step.vector)
        surrogate, entropy, kl = batch.means(step.vector, batch.surrogate, batch.entropy, batch.divergence)
        return UpdateStats(
            policy_loss=-surrogate,
            value_loss=value_loss,
            entropy=entropy,
            clip_fraction=0.0,
            kl=kl,
            epochs=1,
            steps=1,
            gradient_norm=step.gradient_norm,
            explained_variance=float(variance),
            extras=step.extras,
        )

    def state(self) -> dict[str, Any]:
        """That of the policy's own optimizer, if it has one."""
        return {} if self._optimizer is None else {"optimizer": self._optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        if self._optimizer is not None:
            self._optimizer.load_state_dict(state["optimizer"])


class _ActorAlone(nn.Module):
    """The policy's distribution parameters as a module's output, which `functional_call` wants."""

    def __init__(self, policy: ActorCritic) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observations: Tensor) -> Tensor:
        return self.policy.action_parameters(observations)
