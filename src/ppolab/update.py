"""One policy update from one rollout: what an algorithm is, and the one behind all that make epochs of minibatches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import torch
from torch import Tensor

from ppolab.config import Config
from ppolab.core.gae import generalized_advantages
from ppolab.core.losses import explained_variance
from ppolab.core.moments import merged, sample_moments
from ppolab.epoch import Epoch, native_epoch, shuffled, stepwise_epoch, with_standardized_advantages
from ppolab.gradient import Gradient, compiled_on_first_call, whole_gradient, worth_compiling
from ppolab.native import NativePolicy
from ppolab.normalization import RunningScale
from ppolab.objective import LossTerms, Samples, Surrogate, actor_critic_objective
from ppolab.parallel import ALONE, Processes
from ppolab.parameters import FlatParameters, Part, is_adam, part_of
from ppolab.policy import ActorCritic, is_of_the_value
from ppolab.rollout import Rollout

KL_TOLERANCE = 1.5
"""An update ends once the mean KL of the samples that it used last exceeds this many times target_kl."""

KL_SAMPLES = 512
"""That mean is of about so many samples: the KL of one minibatch of 64 is noise."""


def broken_kl(target_kl: float) -> float:
    """Steps on samples whose mean KL exceeds this are taken back: ten times `target_kl`, or 0.2 if that is more.

    Where a policy hardly ever fails, gradients are small for a hundred rollouts. Adam divides by what they were, and so
    makes the first steps after a failure up to twenty times as long as others: eight can end what was learned.
    """
    return max(10 * target_kl, 0.2)


@dataclass(frozen=True)
class UpdateStats:
    """Means over the update's minibatch steps.

    `epochs`: how many were made, the last perhaps in part, without the `steps` that were taken back.

    `kl` is of the samples that early stopping looked at last, or of the last epoch's without it. All of it is over all
    processes. `extras`: metrics that only this algorithm has, by their names.
    """

    policy_loss: float
    value_loss: float
    entropy: float
    clip_fraction: float
    kl: float
    epochs: float
    steps: int
    gradient_norm: float
    explained_variance: float
    extras: dict[str, float] = field(default_factory=dict)


class Algorithm(Protocol):
    """How a rollout becomes better parameters, in place."""

    def update(self, rollout: Rollout, rewards: Tensor, progress: float = 0.0, /) -> UpdateStats:
        """Change the parameters that `Parts` holds.

        Args:
            rewards: [T, N] the rollout's rewards, scaled.
            progress: share of the run's environment steps taken before this update.
        """

    def state(self) -> dict[str, Any]:
        """What the next update depends on besides parameters and optimizer: tensors and plain values."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


@dataclass(frozen=True)
class Parts:
    """What an algorithm works with.

    Attributes:
        flat: the parameters of `policy`, as the one vector that `optimizer` steps.
        generator: draws the order of samples. Several `processes` make the steps that one would make with the rollouts
            of all, and so do their generators, which must be equal.
        native: `policy` in C++, where it can be had.
    """

    policy: ActorCritic
    flat: FlatParameters
    optimizer: torch.optim.Optimizer
    config: Config
    generator: torch.Generator
    processes: Processes = ALONE
    native: NativePolicy | None = None


def actor_of(parts: Parts) -> Part:
    """The parameters that the policy depends on."""
    return part_of(parts.flat, [name for name in parts.flat.names if not is_of_the_value(name)])


class Experience:
    """The valid rows of a rollout, flat. Only advantages and returns depend on the value function's present state.

    `values` [T+1, N] are those of the collecting policy, in the unit of `rewards` [T, N].
    """

    def __init__(self, rollout: Rollout, rewards: Tensor, values: Tensor, config: Config) -> None:
        self._rollout = rollout
        self._rewards = rewards
        self._config = config
        self._rows = rollout.valid.view(-1).nonzero().squeeze(-1)
        self._observations = self._valid(rollout.observations[:-1])
        self._actions = self._valid(rollout.actions)
        self._parameters = self._valid(rollout.parameters)
        self._log_probs = self._valid(rollout.log_probs)
        self._values = self._valid(values[:-1])
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
            self._observations, self._actions, self._parameters, self._log_probs, self._values,
            self._valid(advantages), returns, self._weights,
        )  # fmt: skip

    def _valid(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1).index_select(0, self._rows)


def shared_facts(rollout: Rollout, samples: Samples, processes: Processes) -> tuple[Tensor, Tensor]:
    """(the process that has each sample [B of all], explained variance over all)."""
    mine = (rollout.valid.cpu(), samples.values.cpu(), samples.returns.cpu())
    valid, values, returns = zip(*processes.all_of(mine), strict=True)
    owners = torch.cat([torch.full(part.shape, rank) for rank, part in enumerate(valid)], dim=1)
    return owners[torch.cat(valid, dim=1)], explained_variance(torch.cat(values), torch.cat(returns))


@dataclass(frozen=True)
class Pass:
    """An epoch, or the part of one after which KL early stopping ended the update.

    Attributes:
        terms: [M, terms] LossTerms as columns. norms: [M] of the gradients before clipping.
        kl: mean over the samples that were looked at last.
        share: of the epoch's minibatches that were used, and not taken back.
        stopped: the KL was too large.
    """

    terms: Tensor
    norms: Tensor
    kl: float
    share: float
    stopped: bool


class ValuePass(Protocol):
    """Trains the value function alone."""

    def fit(self, samples: Samples, owners: Tensor) -> float:
        """One pass; see `Learner.one_epoch`."""

    def state(self) -> dict[str, Any]:
        """What the next pass depends on besides the parameters."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


class Learner:
    """Epochs of minibatch steps on policy and value function together, along the gradient of one objective.

    Algorithms of this kind differ in their `surrogate` only. `inputs` are tensors that it takes besides, and that may
    change between updates, in place. `in_native`: the C++ code (native/objective.hpp) knows the surrogate; others, and
    networks that it does not know, take PyTorch's gradient, compiled where that is worth it. `value_function` makes up
    for the passes that are missing to `value_epochs`.
    """

    def __init__(
        self,
        parts: Parts,
        surrogate: Surrogate,
        inputs: Sequence[Tensor] = (),
        *,
        in_native: bool = False,
        value_function: ValuePass | None = None,
    ) -> None:
        self._policy = parts.policy
        self._config = config = parts.config
        self._processes = parts.processes
        self._generator = parts.generator
        self._value_function = value_function
        self._value_epochs: int = config.algorithm["value_epochs"] if value_function else 0
        self._value_scale = RunningScale((), enabled=config.normalize_values)
        self._vector = parts.flat.vector.detach()
        native = parts.native
        self._values: Callable[[Tensor], Tensor] = self._without_dropout if native is None else native.values
        self._epoch: Epoch
        if in_native and native is not None and is_adam(parts.optimizer) and parts.processes.size == 1:
            self._epoch = native_epoch(native, parts.flat.vector, parts.optimizer, config)
            return
        if in_native and native is not None:
            gradient: Gradient = native.gradient
        else:
            gradient = _pytorch_gradient(parts, surrogate, inputs)
        self._epoch = stepwise_epoch(gradient, parts.flat.vector, parts.optimizer, config, parts.processes)

    def update(self, rollout: Rollout, rewards: Tensor, _progress: float = 0.0, /) -> UpdateStats:
        """Up to `epochs` passes over the rollout, fewer when the policy has moved far enough (KL early stopping).

        Args:
            rewards: [T, N] the rollout's rewards, scaled.
        """
        config = self._config
        values = self._value_scale.restored(rollout.values)
        experience = Experience(rollout, rewards, values, config)
        samples = experience.samples(values)
        self._follow(samples.returns)
        samples = self._scaled(samples)
        owners, variance = shared_facts(rollout, samples, self._processes)
        made: list[Pass] = []
        self._policy.train()
        for epoch in range(config.epochs):
            if epoch > 0 and config.recompute_advantages:
                samples = self._recomputed(experience, rollout)
            made.append(self.one_epoch(samples, owners))
            if made[-1].stopped:
                break
        for _ in range(int(sum(each.share for each in made)), self._value_epochs):
            assert self._value_function is not None
            if config.recompute_advantages:
                samples = self._recomputed(experience, rollout)
            self._value_function.fit(samples, owners)
        return _statistics(made, float(variance))

    def one_epoch(self, samples: Samples, owners: Tensor) -> Pass:
        """One pass over the samples of all processes; it ends early when the policy has moved far enough.

        Steps that moved it much too far are taken back (`broken_kl`). What the optimizer learned of gradients stays.

        Args:
            owners: [B of all] the process that has each sample.
        """
        target = self._config.target_kl
        order = shuffled(owners, self._processes.rank, self._config.minibatch_size, self._generator)
        if self._config.normalize_advantages:
            samples = with_standardized_advantages(samples, order, self._processes)
        results: list[tuple[Tensor, Tensor]] = []
        undone = 0
        for part in [order] if target is None else order.parts(KL_SAMPLES):
            before = self._vector.clone()
            results.append(self._epoch(samples, part))
            sums = LossTerms(*results[-1][0].sum(0).tolist())
            kl = float(sums.kl_sum / sums.samples)
            if stopped := target is not None and kl > KL_TOLERANCE * target:
                if kl > broken_kl(target):
                    self._vector.copy_(before)
                    undone = len(part.totals)
                break
        terms, norms = (torch.cat(parts) for parts in zip(*results, strict=True))
        return Pass(terms, norms, kl, (len(terms) - undone) / len(order.totals), stopped)

    def state(self) -> dict[str, Any]:
        """The scale of the values, and `value_function`'s; the rest is kept by whoever made it."""
        scale = {"value_scale": self._value_scale.state_dict()} if self._value_scale.enabled else {}
        return scale | (self._value_function.state() if self._value_function else {})

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        if self._value_scale.enabled:
            self._value_scale.load_state_dict(state["value_scale"])
        if self._value_function:
            self._value_function.load_state(state)

    def _recomputed(self, experience: Experience, rollout: Rollout) -> Samples:
        """With advantages and returns under the value function as it is now."""
        return self._scaled(experience.samples(self._value_scale.restored(self._values(rollout.observations))))

    def _scaled(self, samples: Samples) -> Samples:
        """With values and returns in the unit of the value function's output."""
        standardized = self._value_scale.standardized
        return samples._replace(values=standardized(samples.values), returns=standardized(samples.returns))

    @torch.no_grad()
    def _follow(self, returns: Tensor) -> None:
        """Let the value scale learn of `returns` [B], and change the value head so that its values stay what they were.

        Pop-Art: van Hasselt et al. 2016 (arXiv:1602.07714), section 2; statistics over the whole run.
        """
        if not self._value_scale.enabled:
            return
        head, scale = self._policy.value_head, self._value_scale
        zero, one = (scale.restored(torch.full((), unit, dtype=torch.float64)) for unit in (0.0, 1.0))
        scale.merge(reduce(merged, self._processes.all_of(sample_moments(returns.cpu()))))
        offset, end = scale.standardized(zero), scale.standardized(one)
        head.weight.mul_(end - offset)
        head.bias.mul_(end - offset).add_(offset)

    @torch.no_grad()
    def _without_dropout(self, observations: Tensor) -> Tensor:
        self._policy.eval()
        values = self._policy.values(observations)
        self._policy.train()
        return values


def _statistics(made: list[Pass], variance: float) -> UpdateStats:
    """Of an update of these passes."""
    terms = torch.cat([each.terms for each in made])
    means = LossTerms(*terms.mean(0).tolist())
    return UpdateStats(
        policy_loss=float(means.policy),
        value_loss=float(means.value),
        entropy=float(means.entropy),
        clip_fraction=float(means.clip_fraction),
        kl=made[-1].kl,
        epochs=sum(each.share for each in made),
        steps=len(terms),
        gradient_norm=float(torch.cat([each.norms for each in made]).mean()),
        explained_variance=variance,
    )


def _pytorch_gradient(parts: Parts, surrogate: Surrogate, inputs: Sequence[Tensor]) -> Gradient:
    objective = actor_critic_objective(parts.policy.distribution, parts.config, surrogate)
    gradient = whole_gradient(parts.policy, parts.flat, objective)
    if worth_compiling(parts.config, parts.flat.vector.device):
        gradient = compiled_on_first_call(gradient)
    return gradient if not inputs else lambda vector, *batch: gradient(vector, *batch, *inputs)


@torch.no_grad()
def mean_divergence(parts: Parts, rollout: Rollout) -> float:
    """Exact KL(policy that collected the rollout || policy as it is now), mean over the samples of all processes."""
    parts.policy.eval()
    now = (parts.native or parts.policy).action_parameters(rollout.observations[:-1])
    divergences = parts.policy.distribution.kl(rollout.parameters, now)[rollout.valid]
    sums = torch.stack((divergences.sum(), divergences.new_tensor(float(len(divergences)))))
    total, count = parts.processes.add_up(sums.double()).tolist()
    return float(total / count)
