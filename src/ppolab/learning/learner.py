"""Make one policy update from one rollout, in epochs of minibatches: the base of PPO and its relatives."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ppolab.core.moments import merged, sample_moments
from ppolab.learning.actor_critic import evaluating, training
from ppolab.learning.device_epoch import DeviceEpoch
from ppolab.learning.encoders import in_parts
from ppolab.learning.entropy_coefficient import EntropyCoefficient
from ppolab.learning.epoch import NativeEpoch, Pass, mean_kl, shuffled, steps_in_parts, with_standardized_advantages
from ppolab.learning.experience import Experience, shared_facts
from ppolab.learning.interface import LearnerContext, UpdateStats
from ppolab.learning.kl_early_stopping import KL_SAMPLES, KL_TOLERANCE, broken_kl
from ppolab.learning.native.update import Steps, Stopping
from ppolab.learning.normalization import RunningScale
from ppolab.learning.objective import LossTerms, Quantity, Samples, Surrogate, actor_critic_objective
from ppolab.learning.rollout import Rollout
from ppolab.learning.stacked_images import StackedImages, whole
from ppolab.learning.update_path import make_epoch, update_path
from ppolab.learning.value_learner import ValueRegression


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the samples did, or the part of one after which KL early stopping ended the update.

    Attributes:
        terms: [M, terms] LossTerms as columns, of all steps.
        norms: [M] of the gradients before clipping.
        kl: mean over the samples that were looked at last.
        kept: share of the epoch's minibatches whose steps were made and not rolled back.
        stopped: the KL was too large.
    """

    terms: Tensor
    norms: Tensor
    kl: float
    kept: float
    stopped: bool


class Learner:
    """Make epochs of minibatch steps on policy and value function together, along the gradient of one objective.

    Algorithms of this kind differ in their surrogate, and in `before_update` and `after_update`. A plain function is a
    surrogate that clips nothing and that C++ does not know. `value_regression` makes up for the passes that are missing
    to `value_epochs`.
    """

    def __init__(
        self,
        context: LearnerContext,
        surrogate: Surrogate | Quantity,
        *,
        value_regression: ValueRegression | None = None,
    ) -> None:
        self.context = context
        self.surrogate = surrogate if isinstance(surrogate, Surrogate) else Surrogate(surrogate)
        self._value_regression = value_regression
        self._value_epochs: int = context.config.algorithm["value_epochs"] if value_regression else 0
        self._value_scale = RunningScale((), enabled=context.config.normalize_values)
        self._vector = context.flat.vector.detach()
        policy = context.policy
        self._entropy_coef = EntropyCoefficient(context.config, self._vector.device)
        self.objective = actor_critic_objective(
            policy.distribution,
            context.config,
            self.surrogate,
            masked=policy.masked,
            entropy_coef=self._entropy_coef.value,
        )
        self._run_epoch = make_epoch(context, self.objective, context.optimizer)
        update_path(context, self.objective, context.optimizer).log_reason(context)

    def before_update(self, progress: float, /) -> None:
        """Set the surrogate's inputs for the update that begins; by default there are none.

        Args:
            progress: see `Algorithm`.
        """

    def after_update(self, stats: UpdateStats, _rollout: Rollout, /) -> UpdateStats:
        """Return the statistics of the update that has ended; by default as they are."""
        return stats

    def update(self, rollout: Rollout, rewards: Tensor, progress: float = 0.0, /) -> UpdateStats:
        """Make up to `epochs` passes over the rollout, fewer when the policy has moved far enough (KL early stopping).

        Args:
            rollout: see `Algorithm`.
            rewards: [T, N] the rollout's rewards, scaled.
            progress: share of the run's environment steps taken before this update.
        """
        passes = self.updating(rollout, rewards, progress)
        with training(self.context.policy):
            try:
                wanted = next(passes)
                while True:
                    wanted = passes.send(self.make_pass(wanted))
            except StopIteration as end:
                stats: UpdateStats = end.value
                return stats

    def updating(
        self, rollout: Rollout, rewards: Tensor, progress: float, /
    ) -> Generator[Pass, Steps | None, UpdateStats]:
        """Make an update as `update` does; give each pass to somebody else, who makes it, and sends its steps."""
        self.before_update(progress)
        self._entropy_coef.follow(progress)
        group = self.context.group
        values = self._value_scale.restored(rollout.values)
        experience = Experience(rollout, rewards, values, self.context.config)
        samples = self._samples(experience, rollout, values)
        self._rescale_value_head(samples.experienced(samples.returns))
        samples = self._scaled(samples)
        owners, variance = shared_facts(rollout, samples, self.context.config, group)
        results = yield from self._all_epochs(experience, rollout, samples, owners)
        return self.after_update(_statistics(results, float(variance), self._entropy_coef.metrics()), rollout)

    def _all_epochs(
        self, experience: Experience, rollout: Rollout, samples: Samples, owners: Tensor
    ) -> Generator[Pass, Steps | None, list[EpochResult]]:
        """Make the epochs of policy and value function, then those of the value function alone."""
        config = self.context.config
        results: list[EpochResult] = []
        for epoch in range(config.epochs):
            if epoch > 0 and config.recompute_advantages:
                samples = self._recomputed(experience, rollout)
            wanted = self.drawn_pass(samples, owners)
            steps = yield wanted
            assert steps is not None, "the first thing that is sent begins the update"
            kept = (len(steps.terms) - steps.rolled_back) / len(wanted.order.totals)
            kl = mean_kl(steps.terms[-steps.last :])
            results.append(EpochResult(steps.terms, steps.norms, kl, kept, steps.stopped))
            if steps.stopped:
                break
        for _ in range(int(sum(each.kept for each in results)), self._value_epochs):
            assert self._value_regression is not None
            if config.recompute_advantages:
                samples = self._recomputed(experience, rollout)
            self._value_regression.fit(samples, owners)
        return results

    def drawn_pass(self, samples: Samples, owners: Tensor) -> Pass:
        """Draw the order of one pass over the samples of all processes.

        It ends early when the policy has moved far enough. Steps that moved it much too far are rolled back
        (`broken_kl`). What the optimizer learned of gradients stays.

        Args:
            samples: this process's.
            owners: [B of all] the process that has each sample.
        """
        config, group = self.context.config, self.context.group
        order = shuffled(owners, group.rank, config.minibatch_size, self.context.generator)
        if config.normalize_advantages:
            samples = with_standardized_advantages(samples, order, group)
        target, stopping = config.target_kl, None
        if target is not None:
            stopping = Stopping(order.lengths(KL_SAMPLES), KL_TOLERANCE * target, broken_kl(target))
        return Pass(samples, order, stopping)

    def make_pass(self, wanted: Pass) -> Steps:
        """Make the steps of a pass: in one call where that can be."""
        if isinstance(self._run_epoch, NativeEpoch | DeviceEpoch):
            return self._run_epoch.steps(wanted)
        return steps_in_parts(self._run_epoch, self._vector, wanted)

    def state(self) -> dict[str, Any]:
        """Return the scale of the values and the value regression's state; whoever made the rest keeps it."""
        scale = {"value_scale": self._value_scale.state_dict()} if self._value_scale.enabled else {}
        return scale | (self._value_regression.state() if self._value_regression else {})

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        if self._value_scale.enabled:
            self._value_scale.load_state_dict(state["value_scale"])
        if self._value_regression:
            self._value_regression.load_state(state)

    def _recomputed(self, experience: Experience, rollout: Rollout) -> Samples:
        """Return samples with advantages and returns under the value function as it is now."""
        if not self._value_scale.enabled and rollout.memories is None and self.context.native is not None:
            return experience.samples_by(self.context.native, None)
        values = self._values(rollout.observations) if rollout.memories is None else self._remembered_values(rollout)
        return self._scaled(experience.samples(self._value_scale.restored(values)))

    def _samples(self, experience: Experience, rollout: Rollout, values: Tensor) -> Samples:
        """Return samples with advantages and returns under `values` [T+1, N]."""
        if self.context.native is None or rollout.memories is not None:
            return experience.samples(values)
        return experience.samples_by(self.context.native, values)

    def _scaled(self, samples: Samples) -> Samples:
        """Return samples with values and returns in the unit of the value function's output."""
        standardized = self._value_scale.standardized
        return samples._replace(values=standardized(samples.values), returns=standardized(samples.returns))

    @torch.no_grad()
    def _rescale_value_head(self, returns: Tensor) -> None:
        """Let the value scale learn of `returns` [B], and change the value head so that its values stay what they were.

        Pop-Art: van Hasselt et al. 2016 (arXiv:1602.07714), section 2; statistics over the whole run.
        """
        if not self._value_scale.enabled:
            return
        head, scale = self.context.policy.value_head, self._value_scale
        zero, one = (scale.restored(torch.full((), unit, dtype=torch.float64)) for unit in (0.0, 1.0))
        scale.merge(reduce(merged, self.context.group.all_gather(sample_moments(returns.cpu()))))
        offset, end = scale.standardized(zero), scale.standardized(one)
        head.weight.mul_(end - offset)
        head.bias.mul_(end - offset).add_(offset)

    @torch.no_grad()
    def _values(self, observations: Tensor | StackedImages) -> Tensor:
        """Return the present values [...] of rows [..., W], without dropout."""
        if self.context.native is not None:
            assert isinstance(observations, Tensor)  # C++ knows vectors only
            return self.context.native.values(observations)
        with evaluating(self.context.policy):
            return in_parts(self.context.policy.values, observations)

    @torch.no_grad()
    def _remembered_values(self, rollout: Rollout) -> Tensor:
        """Return values [T+1, N]; the memory of the value function begins as it did when the rollout was collected."""
        assert rollout.memories is not None
        values = (self.context.native or self.context.policy).values
        with evaluating(self.context.policy):
            seen, memories = whole(rollout.observations), rollout.memories
            return values(seen, memories.states[0], memories.starts)


def _statistics(results: list[EpochResult], variance: float, extras: dict[str, float]) -> UpdateStats:
    """Return the statistics of an update of these epochs."""
    terms = torch.cat([each.terms for each in results])
    means = LossTerms(*terms.mean(0).tolist())
    return UpdateStats(
        policy_loss=float(means.policy),
        value_loss=float(means.value),
        entropy=float(means.entropy),
        clip_fraction=float(means.clip_fraction),
        kl=results[-1].kl,
        epochs=sum(each.kept for each in results),
        steps=len(terms),
        gradient_norm=float(torch.cat([each.norms for each in results]).mean()),
        explained_variance=variance,
        extras=extras,
    )
