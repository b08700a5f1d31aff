"""Define what an algorithm is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.masks import masked_alike
from ppolab.learning.actor_critic import ActorCritic, evaluating, is_of_the_value
from ppolab.learning.encoders import in_parts
from ppolab.learning.flat_parameters import FlatParameters, ParameterSubset, parameter_subset
from ppolab.learning.native import NativePolicy
from ppolab.learning.rollout import Rollout
from ppolab.learning.stacked_images import whole
from ppolab.runtime.process_group import ALONE, ProcessGroup


@dataclass(frozen=True)
class UpdateStats:
    """What an update did, over all processes. Losses and other means are over all `steps`.

    Attributes:
        steps: gradient steps that were made, with those that were then rolled back.
        epochs: passes over the rollout whose steps were kept, the last perhaps in part: rolled back steps do not count.
        kl: mean over the samples that early stopping looked at last; without it, over those of the last epoch.
        gradient_norm: before clipping.
        extras: metrics that only this algorithm has, by their names.
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

    def with_extras(self, extras: dict[str, float]) -> UpdateStats:
        """Return the same statistics with further extras."""
        return replace(self, extras=self.extras | extras)


class Algorithm(Protocol):
    """How a rollout becomes better parameters, in place."""

    def update(self, rollout: Rollout, rewards: Tensor, progress: float = 0.0, /) -> UpdateStats:
        """Change the parameters in `LearnerContext.flat`.

        Args:
            rollout: what was collected with the parameters as they are now.
            rewards: [T, N] the rollout's rewards, scaled.
            progress: share of the run's environment steps taken before this update.
        """

    def state(self) -> dict[str, Any]:
        """Return what the next update depends on besides parameters and optimizer: tensors and plain values."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


@dataclass(frozen=True)
class LearnerContext:
    """What an algorithm works with.

    Attributes:
        flat: the parameters of `policy`, as one vector.
        optimizer: made for `flat` by `make_optimizer`.
        generator: draws the order of samples. It must be equal in all processes of `group`, which together make the
            steps that one process would make with the rollouts of all.
        native: `policy` in C++; None: PyTorch computes everything.
        together: epochs are made with those of other runs, see `ppolab.learning.members`.
    """

    policy: ActorCritic
    flat: FlatParameters
    optimizer: torch.optim.Optimizer
    config: Config
    generator: torch.Generator
    group: ProcessGroup = ALONE
    native: NativePolicy | None = None
    together: bool = False


def actor_parameters(context: LearnerContext) -> ParameterSubset:
    """Return the parameters that the policy depends on."""
    return parameter_subset(context.flat, [name for name in context.flat.names if not is_of_the_value(name)])


@torch.no_grad()
def mean_divergence(context: LearnerContext, rollout: Rollout) -> float:
    """Return the exact KL(policy that collected the rollout || policy now), mean over the samples of all processes."""
    with evaluating(context.policy):
        parameters = (context.native or context.policy).action_parameters
        if rollout.memories is None:
            now = in_parts(parameters, rollout.observations[:-1])
        else:
            seen, memories = whole(rollout.observations[:-1]), rollout.memories
            now = parameters(seen, memories.states[0], memories.starts[:-1])
    if context.policy.masked:
        now = masked_alike(now, rollout.parameters)
    divergences = context.policy.distribution.kl(rollout.parameters, now)[rollout.valid]
    sums = torch.stack((divergences.sum(), divergences.new_tensor(float(len(divergences)))))
    total, count = context.group.all_reduce(sums.double()).tolist()
    return float(total / count)
