"""Fit the value function by itself, and move the policy in one step on the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._functorch.functional_call import functional_call  # `torch.func` imports half of the compiler

from ppolab.core.losses import unclipped_surrogate
from ppolab.core.masks import masked_alike
from ppolab.core.trust_region import Product, fisher_vector_product
from ppolab.learning.actor_critic import ActorAlone, evaluating
from ppolab.learning.entropy_coefficient import EntropyCoefficient
from ppolab.learning.epoch import MinibatchOrder, with_standardized_advantages
from ppolab.learning.experience import Experience, shared_facts
from ppolab.learning.flat_parameters import ParameterSubset
from ppolab.learning.interface import LearnerContext, UpdateStats, actor_parameters
from ppolab.learning.objective import Quantity, Samples
from ppolab.learning.rollout import Rollout
from ppolab.learning.value_learner import ValueRegression


@dataclass(frozen=True)
class PolicyStep:
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

    A quantity (`Quantity`) is a function of (distribution parameters [B, P], log-ratio [B], samples) with values [B].
    """

    def __init__(self, context: LearnerContext, actor: ParameterSubset, samples: Samples) -> None:
        self._actor = actor
        self._module = ActorAlone(context.policy)
        self._distribution = context.policy.distribution
        self._masked = context.policy.masked
        self._samples = samples
        self._inputs = samples.inputs_of_policy()
        self._group = context.group
        self._count = context.group.all_reduce(samples.weights.sum())

    def share(self, quantity: Quantity, vector: Tensor) -> Tensor:
        """Return what this process's samples add to the mean; differentiable."""
        return self._shares((quantity,), vector)[0]

    @torch.no_grad()
    def means(self, vector: Tensor, *quantities: Quantity) -> list[float]:
        """Return the mean of each quantity."""
        shares: list[float] = self._group.all_reduce(self._shares(quantities, vector)).tolist()
        return shares

    def gradient(self, quantity: Quantity, vector: Tensor) -> Tensor:
        """Return the gradient [K] of the mean."""
        point = vector.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.share(quantity, point), point)
        return self._group.all_reduce(slope.contiguous())

    def fisher(self, vector: Tensor) -> Product:
        """Return the Fisher matrix [K, K] of the policy that collected the batch, whose parameters `vector` are."""
        product = fisher_vector_product(partial(self.share, self.divergence), vector)
        return lambda direction: self._group.all_reduce(product(direction).contiguous())

    def surrogate(self, _parameters: Tensor, log_ratio: Tensor, samples: Samples) -> Tensor:
        """Return the quantity of Schulman et al. 2015 (arXiv:1502.05477), equation 14."""
        return unclipped_surrogate(log_ratio, samples.advantages)

    def divergence(self, parameters: Tensor, _log_ratio: Tensor, samples: Samples) -> Tensor:
        """Return a quantity: the exact KL(collecting policy || this one)."""
        return self._distribution.kl(samples.parameters, parameters)

    def entropy(self, parameters: Tensor, _log_ratio: Tensor, _samples: Samples) -> Tensor:
        """Return a quantity: the entropy in nats."""
        return self._distribution.entropy(parameters)

    def _shares(self, quantities: tuple[Quantity, ...], vector: Tensor) -> Tensor:
        named = {f"policy.{name}": part for name, part in self._actor.substitutes(vector).items()}
        parameters = functional_call(self._module, named, self._inputs, tie_weights=False)
        if self._masked:
            parameters = masked_alike(parameters, self._samples.parameters)
        log_ratio = self._distribution.log_prob(parameters, self._samples.actions) - self._samples.log_probs
        values = [quantity(parameters, log_ratio, self._samples) for quantity in quantities]
        return torch.stack([(value * self._samples.weights).sum() for value in values]) / self._count


PolicyStepFunction = Callable[[ActorOnBatch, Tensor], PolicyStep]
"""(batch, the actor's parameters [K], which collected it) -> where they should be."""


class SeparateLearner:
    """Make epochs of minibatches for the value function, then `step` for the policy, in evaluation mode.

    Both see the advantages under the value function that the rollout was collected with. `optimizer` is one that `step`
    has of its own; its state is part of the learner's. `entropy_coef` is the one that `step` reads, if it does.
    """

    def __init__(
        self,
        context: LearnerContext,
        step: PolicyStepFunction,
        optimizer: torch.optim.Optimizer | None = None,
        entropy_coef: EntropyCoefficient | None = None,
    ) -> None:
        self._context = context
        self._step = step
        self._optimizer = optimizer
        self._entropy_coef = entropy_coef
        self._actor = actor_parameters(context)
        self._value_regression = ValueRegression(context, context.config.algorithm["value_epochs"])
        self._value_regression.path.log_reason(context)

    def update(self, rollout: Rollout, rewards: Tensor, progress: float = 0.0, /) -> UpdateStats:
        """Change all parameters.

        Args:
            rewards: [T, N] the rollout's rewards, scaled.
            progress: see `Algorithm`.
        """
        if self._entropy_coef is not None:
            self._entropy_coef.follow(progress)
        context = self._context
        samples = Experience(rollout, rewards, rollout.values, context.config).samples(rollout.values)
        owners, variance = shared_facts(rollout, samples, context.config, context.group)
        value_loss = self._value_regression.fit(samples, owners)

        if context.config.normalize_advantages:
            mine, everyone = samples.weights.nonzero().squeeze(-1).cpu(), int((owners >= 0).sum())
            order = MinibatchOrder(mine, torch.tensor([len(mine)]), torch.tensor([everyone]))
            samples = with_standardized_advantages(samples, order, context.group)
        batch = ActorOnBatch(context, self._actor, samples)
        with evaluating(context.policy):
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
            extras=step.extras | (self._entropy_coef.metrics() if self._entropy_coef else {}),
        )

    def state(self) -> dict[str, Any]:
        """Return the state of the policy's own optimizer, if it has one."""
        return {} if self._optimizer is None else {"optimizer": self._optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        if self._optimizer is not None:
            self._optimizer.load_state_dict(state["optimizer"])
