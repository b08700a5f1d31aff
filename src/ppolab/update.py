"""One policy update: every epoch of minibatch steps on one rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppolab.config import Config
from ppolab.core.gae import generalized_advantages
from ppolab.core.losses import explained_variance
from ppolab.epoch import Epoch, native_epoch, shuffled, stepwise_epoch, with_standardized_advantages
from ppolab.gradient import Gradient, compiled_on_first_call, whole_gradient
from ppolab.native import NativePolicy
from ppolab.objective import LossTerms, Samples, ppo_objective
from ppolab.parallel import ALONE, Processes
from ppolab.parameters import FlatParameters, is_adam
from ppolab.policy import ActorCritic
from ppolab.rollout import Rollout

KL_TOLERANCE = 1.5
"""An update ends once the mean KL of an epoch exceeds this many times target_kl."""


@dataclass(frozen=True)
class UpdateStats:
    """Means over the update's minibatch steps; `kl` over the last epoch's samples, `epochs` how many were made.

    All of it over all processes.
    """

    policy_loss: float
    value_loss: float
    entropy: float
    clip_fraction: float
    kl: float
    epochs: int
    steps: int
    gradient_norm: float
    explained_variance: float


class Experience:
    """The valid rows of a rollout, flat. Only advantages and returns depend on the value function's present state."""

    def __init__(self, rollout: Rollout, rewards: Tensor, config: Config) -> None:
        self._rollout = rollout
        self._rewards = rewards
        self._config = config
        self._rows = rollout.valid.view(-1).nonzero().squeeze(-1)
        self._observations = self._valid(rollout.observations[:-1])
        self._actions = self._valid(rollout.actions)
        self._log_probs = self._valid(rollout.log_probs)
        self._values = self._valid(rollout.values[:-1])
        self._weights = torch.ones_like(self._values)

    def samples(self, values: Tensor) -> Samples:
        """With advantages and returns under `values` [T+1, N] and the scaled rewards."""
        rollout, config = self._rollout, self._config
        advantages = generalized_advantages(
            self._rewards, values, rollout.terminated, rollout.truncated,
            gamma=config.gamma, gae_lambda=config.gae_lambda,
        )  # fmt: skip
        returns = self._valid(advantages + values[:-1])
        return Samples(
            self._observations, self._actions, self._log_probs, self._values, self._valid(advantages), returns,
            self._weights,
        )  # fmt: skip

    def _valid(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1).index_select(0, self._rows)


class Learner:
    """A policy, its flat parameters, and what turns a rollout into better ones.

    With `native`, which is `policy` in C++, it runs there; without, `compiled` says whether PyTorch compiles gradients.
    Several `processes` make the steps that one would make with the rollouts of all, and so do their generators, which
    must be equal.
    """

    def __init__(
        self,
        policy: ActorCritic,
        flat: FlatParameters,
        optimizer: torch.optim.Optimizer,
        config: Config,
        generator: torch.Generator,
        *,
        processes: Processes = ALONE,
        native: NativePolicy | None = None,
        compiled: bool = False,
    ) -> None:
        self._policy = policy
        self._config = config
        self._processes = processes
        self._generator = generator
        self._values: Callable[[Tensor], Tensor] = self._without_dropout if native is None else native.values
        self._epoch: Epoch
        if native is not None and is_adam(optimizer) and processes.size == 1:
            self._epoch = native_epoch(native, flat.vector, optimizer, config)
            return
        if native is not None:
            gradient: Gradient = native.gradient
        else:
            gradient = whole_gradient(policy, flat, ppo_objective(policy.distribution, config))
            gradient = compiled_on_first_call(gradient) if compiled else gradient
        self._epoch = stepwise_epoch(gradient, flat.vector, optimizer, config, processes)

    def update(self, rollout: Rollout, rewards: Tensor) -> UpdateStats:
        """Up to `epochs` passes over the rollout, fewer when the policy has moved far enough (KL early stopping).

        Args:
            rewards: [T, N] the rollout's rewards, scaled.
        """
        config = self._config
        experience = Experience(rollout, rewards, config)
        samples = experience.samples(rollout.values)
        owners, variance = self._shared(rollout, samples)
        results: list[tuple[Tensor, Tensor]] = []
        self._policy.train()
        for epoch in range(1, config.epochs + 1):
            if epoch > 1 and config.recompute_advantages:
                samples = experience.samples(self._values(rollout.observations))
            results.append(self._one_epoch(samples, owners))
            sums = LossTerms(*results[-1][0].sum(0).tolist())
            kl = float(sums.kl_sum / sums.samples)
            if config.target_kl is not None and kl > KL_TOLERANCE * config.target_kl:
                break
        terms, norms = (torch.cat(parts) for parts in zip(*results, strict=True))
        means = LossTerms(*terms.mean(0).tolist())
        return UpdateStats(
            policy_loss=float(means.policy),
            value_loss=float(means.value),
            entropy=float(means.entropy),
            clip_fraction=float(means.clip_fraction),
            kl=kl,
            epochs=epoch,
            steps=len(terms),
            gradient_norm=float(norms.mean()),
            explained_variance=float(variance),
        )

    def _one_epoch(self, samples: Samples, owners: Tensor) -> tuple[Tensor, Tensor]:
        order = shuffled(owners, self._processes.rank, self._config.minibatch_size, self._generator)
        if self._config.normalize_advantages:
            samples = with_standardized_advantages(samples, order, self._processes)
        return self._epoch(samples, order)

    def _shared(self, rollout: Rollout, samples: Samples) -> tuple[Tensor, Tensor]:
        """(the process that has each sample [B of all], explained variance over all)."""
        mine = (rollout.valid.cpu(), samples.values.cpu(), samples.returns.cpu())
        valid, values, returns = zip(*self._processes.all_of(mine), strict=True)
        owners = torch.cat([torch.full(part.shape, rank) for rank, part in enumerate(valid)], dim=1)
        return owners[torch.cat(valid, dim=1)], explained_variance(torch.cat(values), torch.cat(returns))

    @torch.no_grad()
    def _without_dropout(self, observations: Tensor) -> Tensor:
        self._policy.eval()
        values = self._policy.values(observations)
        self._policy.train()
        return values
