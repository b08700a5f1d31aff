"""Describe what an update optimizes, once, for PyTorch and for C++."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.distributions import ActionDistribution
from ppolab.core.kl import kl_k3
from ppolab.core.losses import clipped_value_error, is_clipped, squared_value_error, weighted_mean
from ppolab.core.masks import masked_alike
from ppolab.learning.stacked_images import StackedImages


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of images, copied only when they are asked for, since images are large.

    Attributes:
        source: [R, W] all rows. rows: [B] which of them.
    """

    source: Tensor | StackedImages
    rows: Tensor

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return copies [K, W] of the chosen rows at `index` [K]."""
        return self.source.index_select(dim, self.rows[index])

    def chosen(self, index: Tensor) -> Tensor | StackedImages:
        """Return the same rows; images that consist of single channels are not put together."""
        if isinstance(self.source, StackedImages):
            return self.source.chosen(self.rows[index])
        return self.index_select(0, index)

    def whole(self) -> Tensor:
        """Return copies [B, W] of all chosen rows."""
        return self.source.index_select(0, self.rows)


class Samples(NamedTuple):
    """Flat experience; each tensor has B rows, or [minibatches, B] after shuffling.

    `parameters` [B, P] of the action distributions, `log_probs` and `values` are those of the collecting policy. Where
    actions are masked, `parameters` are masked logits, which also tell the mask. `weights` are 1, and 0 where a row is
    no experience.

    With memory the rows are S sequences of L steps, time-major, [L * S]. `states` [K, S, H] are those before the first
    steps, `starts` [B] bool where a row begins an episode.
    """

    observations: Tensor | ChosenRows | StackedImages
    actions: Tensor
    parameters: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    states: Tensor | None = None
    starts: Tensor | None = None

    def inputs_of_policy(self) -> tuple[Tensor | StackedImages, ...]:
        """Return what `ActorCritic` answers: observations, and with memory, states and starts."""
        seen = self.observations.whole() if isinstance(self.observations, ChosenRows) else self.observations
        return (seen,) if self.states is None or self.starts is None else (seen, self.states, self.starts)

    def experienced(self, column: Tensor) -> Tensor:
        """Return the rows of a column that are experience."""
        return column if self.states is None else column[self.weights > 0]


class LossTerms(NamedTuple):
    """Means over a minibatch, except for those in `SUMS`, which are sums over its samples."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    clip_fraction: Tensor
    kl_sum: Tensor
    samples: Tensor


SUMS = ("kl_sum", "samples")
MEANS = tuple(name for name in LossTerms._fields if name not in SUMS)


def share_of_terms(terms: Tensor, share: float) -> Tensor:
    """Return what a part, with `share` of a minibatch's weight, adds to the minibatch's LossTerms."""
    return terms * terms.new_tensor([share if name in MEANS else 1.0 for name in LossTerms._fields])


Quantity = Callable[..., Tensor]
"""(distribution parameters [B, P], log pi_new(a|s) - log pi_old(a|s) [B], minibatch, *inputs) -> [B]."""


@dataclass(frozen=True)
class NativeSurrogate:
    """A surrogate as native/objective.hpp computes it: r A, clipped to the surrogate's `clip_range`, minus a penalty.

    Attributes:
        penalty: [] float32, weight of KL(old || new), read at every step; None: there is no penalty.
    """

    penalty: Tensor | None = None


@dataclass(frozen=True)
class Surrogate:
    """What an algorithm wants of the policy. Both the update in PyTorch and the one in C++ are built from it.

    Attributes:
        function: the quantity whose mean is maximized.
        inputs: tensors that `function` takes after the minibatch, and that may change in place between updates.
        clip_range: `policy/clip_fraction` counts ratios outside [1 - clip_range, 1 + clip_range]. A number, or one of
            `inputs` ([] float64).
        native: the same surrogate for C++; None: C++ does not know it, and PyTorch computes the gradient.
    """

    function: Quantity
    inputs: tuple[Tensor, ...] = ()
    clip_range: float | Tensor = math.inf
    native: NativeSurrogate | None = None

    def __post_init__(self) -> None:
        if isinstance(self.clip_range, Tensor) and not any(each is self.clip_range for each in self.inputs):
            raise ValueError("clip_range: a tensor must be one of the inputs, or compiled code would not see it change")


@dataclass(frozen=True)
class NativeObjective:
    """The settings of native/objective.hpp.

    Attributes:
        entropy_coef: a number, or a tensor [] float64 that is read at every step.
        clip: the same; infinity: no clipping.
        value_clip: None: no clipping.
        penalty: see `NativeSurrogate`.
        value_only: differentiate the critic alone, which then must not share layers with the actor.
        masked: put the mask of `Samples.parameters` on what the network gives.
    """

    value_coef: float
    entropy_coef: float | Tensor = 0.0
    clip: float | Tensor = math.inf
    value_clip: float | None = None
    penalty: Tensor | None = None
    value_only: bool = False
    masked: bool = False


@dataclass(frozen=True)
class Objective:
    """A loss to be minimized.

    Attributes:
        function: (distribution parameters [B, P], values [B], minibatch, *inputs) -> (loss [], LossTerms as one
            tensor).
        inputs: see `Surrogate`.
        native: the same loss for C++; None: C++ does not know it.
    """

    function: Callable[..., tuple[Tensor, Tensor]]
    inputs: tuple[Tensor, ...] = ()
    native: NativeObjective | None = None


def actor_critic_objective(
    distribution: ActionDistribution,
    config: Config,
    surrogate: Surrogate,
    *,
    masked: bool = False,
    entropy_coef: float | Tensor | None = None,
) -> Objective:
    """Return the objective of policy and value function together, with any surrogate.

    Schulman et al. 2017 (arXiv:1707.06347), equation 9.

    Args:
        masked: see `ActorCritic`; the surrogate sees masked parameters, too.
        entropy_coef: see `NativeObjective`; None: the one of `config`.
    """
    value_clip: float | None = config.algorithm.get("value_clip")
    weight = config.entropy_coef if entropy_coef is None else entropy_coef
    all_inputs = (*surrogate.inputs, weight) if isinstance(weight, Tensor) else surrogate.inputs
    clip_of, weight_of = _reader(surrogate.clip_range, all_inputs), _reader(weight, all_inputs)
    of_surrogate = len(surrogate.inputs)

    def objective(parameters: Tensor, values: Tensor, batch: Samples, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        if masked:
            parameters = masked_alike(parameters, batch.parameters)
        log_ratio = distribution.log_prob(parameters, batch.actions) - batch.log_probs
        gain = weighted_mean(surrogate.function(parameters, log_ratio, batch, *inputs[:of_surrogate]), batch.weights)
        value_error = _value_error(values, batch, value_clip)
        entropy = weighted_mean(distribution.entropy(parameters), batch.weights)
        bonus = torch.mul(entropy, weight_of(inputs)).to(entropy.dtype)
        loss = -gain + config.value_coef * value_error - bonus
        outside = is_clipped(log_ratio, clip_of(inputs)).to(values.dtype)
        clip_fraction = weighted_mean(outside, batch.weights)
        kl_sum = (kl_k3(log_ratio) * batch.weights).sum()
        terms = LossTerms(-gain, value_error, entropy, clip_fraction, kl_sum, batch.weights.sum())
        return loss, torch.stack(terms).detach()

    native = None
    if surrogate.native is not None:
        native = NativeObjective(
            value_coef=config.value_coef,
            entropy_coef=weight,
            clip=surrogate.clip_range,
            value_clip=value_clip,
            penalty=surrogate.native.penalty,
            masked=masked,
        )
    return Objective(objective, all_inputs, native)


def value_objective(value_coef: float, value_clip: float | None) -> Objective:
    """Return the regression of the value function alone: the value term of `actor_critic_objective`."""

    def objective(_parameters: Tensor, values: Tensor, batch: Samples) -> tuple[Tensor, Tensor]:
        value_error = _value_error(values, batch, value_clip)
        nothing = torch.zeros_like(value_error)
        terms = LossTerms(nothing, value_error, nothing, nothing, nothing, batch.weights.sum())
        return value_coef * value_error, torch.stack(terms).detach()

    return Objective(objective, (), NativeObjective(value_coef, value_clip=value_clip, value_only=True))


def _value_error(values: Tensor, batch: Samples, value_clip: float | None) -> Tensor:
    if value_clip is None:
        errors = squared_value_error(values, batch.returns)
    else:
        errors = clipped_value_error(values, batch.values, batch.returns, value_clip)
    return weighted_mean(errors, batch.weights)


def _reader(number: float | Tensor, tensors: tuple[Tensor, ...]) -> Callable[[tuple[Tensor, ...]], float | Tensor]:
    """Return a function that finds `number` among the inputs `tensors`: traced code sees changes of inputs only."""
    if not isinstance(number, Tensor):
        return lambda _inputs: number
    place = next(index for index, each in enumerate(tensors) if each is number)
    return lambda inputs: inputs[place]
