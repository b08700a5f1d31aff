"""Action distributions as pure functions of one parameter tensor [..., parameter_size].

With one shape for every action space, the rollout, the loss and an exact KL need not know which one it is.
Actions are [..., action_size] for Gaussian and Bernoulli, [..., number of components] for the categorical ones. Those
of a joint distribution stand one after another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
IMPOSSIBLE = -1e9
"""A logit whose probability is exactly 0, and no finite number below it.

The gradient of the entropy multiplies the log-probability by the weight of the entropy. The lowest finite number would
become infinite there where the weight is above 1, and the gradient NaN.
"""


class ActionDistribution(Protocol):
    """A family of distributions, as the policy needs it."""

    @property
    def parameter_size(self) -> int:
        """Return the length of the last dimension of the parameters."""

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return the shape of one action."""

    @property
    def action_dtype(self) -> torch.dtype:
        """Return float32 for continuous actions, int64 for discrete ones."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Return the shape of the draws for one action."""

    def noise(self, rows: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return independent draws for `rows`, on the generator's device, which `sample` turns into actions."""

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return one action per row of parameters, drawn by `noise`."""

    def mode(self, parameters: Tensor) -> Tensor:
        """Return the most probable action per row."""

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Return the [...] log-probability (density for continuous actions) of each action."""

    def entropy(self, parameters: Tensor) -> Tensor:
        """Return the [...] entropy in nats."""

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Return the [...] exact KL(old || new) in nats."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normal components; parameters are [mean, log standard deviation]."""

    size: int

    @property
    def parameter_size(self) -> int:
        return 2 * self.size

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def action_dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.size,)

    def noise(self, rows: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn((*rows, *self.noise_shape), generator=generator, device=generator.device)

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = parameters.chunk(2, dim=-1)
        return torch.addcmul(mean, noise, log_std.exp())

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.chunk(2, dim=-1)[0]

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = parameters.chunk(2, dim=-1)
        scaled = (actions - mean) * (-log_std).exp()
        return (-0.5 * scaled.square() - log_std - LOG_SQRT_2PI).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        return (parameters.chunk(2, dim=-1)[1] + 0.5 + LOG_SQRT_2PI).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        old_mean, old_log_std = old.chunk(2, dim=-1)
        new_mean, new_log_std = new.chunk(2, dim=-1)
        squares = (2 * old_log_std).exp() + (old_mean - new_mean).square()
        return (new_log_std - old_log_std + 0.5 * squares * (-2 * new_log_std).exp() - 0.5).sum(-1)


@dataclass(frozen=True)
class MultiCategorical:
    """Independent categorical components; parameters are their logits, one component after the other.

    A Discrete space is the case of one component. Logits are padded to a rectangle, so that any number of components
    costs the same few operations.
    """

    sizes: tuple[int, ...]

    @property
    def parameter_size(self) -> int:
        return sum(self.sizes)

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (len(self.sizes),)

    @property
    def action_dtype(self) -> torch.dtype:
        return torch.int64

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (len(self.sizes), max(self.sizes))

    def noise(self, rows: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return standard Gumbel noise: argmax(logits + noise) is a draw."""
        uniform = torch.rand((*rows, *self.noise_shape), generator=generator, device=generator.device)
        return -torch.log(-torch.log(uniform.clamp(1e-20, 1.0 - 1e-7)))

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        return (self._logits(parameters) + noise).argmax(-1)

    def mode(self, parameters: Tensor) -> Tensor:
        return self._logits(parameters).argmax(-1)

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        log_probs = functional.log_softmax(self._logits(parameters), dim=-1)
        return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        log_probs = functional.log_softmax(self._logits(parameters), dim=-1)
        return -(log_probs.exp() * log_probs).sum((-2, -1))

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        old_log = functional.log_softmax(self._logits(old), dim=-1)
        new_log = functional.log_softmax(self._logits(new), dim=-1)
        return (old_log.exp() * (old_log - new_log)).sum((-2, -1))

    def _logits(self, parameters: Tensor) -> Tensor:
        """Return [..., components, largest size], padded so low that its probability is exactly 0 in float32."""
        widest = max(self.sizes)
        parts = torch.split(parameters, list(self.sizes), dim=-1)
        rows = [functional.pad(part, (0, widest - part.shape[-1]), value=IMPOSSIBLE) for part in parts]
        return torch.stack(rows, dim=-2)


@dataclass(frozen=True)
class Bernoulli:
    """Independent binary components (MultiBinary); parameters are logits of 1."""

    size: int

    @property
    def parameter_size(self) -> int:
        return self.size

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def action_dtype(self) -> torch.dtype:
        return torch.int64

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.size,)

    def noise(self, rows: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand((*rows, *self.noise_shape), generator=generator, device=generator.device)

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        return (noise < parameters.sigmoid()).to(torch.int64)

    def mode(self, parameters: Tensor) -> Tensor:
        return (parameters > 0).to(torch.int64)

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        sign = 2.0 * actions.to(parameters.dtype) - 1.0
        return functional.logsigmoid(sign * parameters).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        probability = parameters.sigmoid()
        negative = functional.logsigmoid(parameters) * probability
        return -(negative + functional.logsigmoid(-parameters) * (1.0 - probability)).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        probability = old.sigmoid()
        one = probability * (functional.logsigmoid(old) - functional.logsigmoid(new))
        zero = (1.0 - probability) * (functional.logsigmoid(-old) - functional.logsigmoid(-new))
        return (one + zero).sum(-1)


@dataclass(frozen=True)
class Joint:
    """Independent parts of different families as one distribution; a Gaussian part is the last one.

    Parameters and actions are those of the parts, one after another. Where one part is continuous, actions are float32,
    which holds the whole numbers of the others exactly, up to 2**24.
    """

    parts: tuple[ActionDistribution, ...]

    @property
    def parameter_size(self) -> int:
        return sum(part.parameter_size for part in self.parts)

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (sum(self._action_sizes),)

    @property
    def action_dtype(self) -> torch.dtype:
        return torch.float32 if any(part.action_dtype == torch.float32 for part in self.parts) else torch.int64

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (sum(self._noise_sizes),)

    def noise(self, rows: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.cat([part.noise(rows, generator).reshape(*rows, -1) for part in self.parts], dim=-1)

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        drawn = zip(
            self.parts, self._parameters(parameters), torch.split(noise, self._noise_sizes, dim=-1), strict=True
        )
        return self._joined(
            [part.sample(own, draws.reshape(*draws.shape[:-1], *part.noise_shape)) for part, own, draws in drawn]
        )

    def mode(self, parameters: Tensor) -> Tensor:
        pairs = zip(self.parts, self._parameters(parameters), strict=True)
        return self._joined([part.mode(own) for part, own in pairs])

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        triples = zip(
            self.parts, self._parameters(parameters), torch.split(actions, self._action_sizes, dim=-1), strict=True
        )
        return _sum([part.log_prob(own, chosen.to(part.action_dtype)) for part, own, chosen in triples])

    def entropy(self, parameters: Tensor) -> Tensor:
        return _sum([part.entropy(own) for part, own in zip(self.parts, self._parameters(parameters), strict=True)])

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        triples = zip(self.parts, self._parameters(old), self._parameters(new), strict=True)
        return _sum([part.kl(before, after) for part, before, after in triples])

    @property
    def _action_sizes(self) -> list[int]:
        return [math.prod(part.action_shape) for part in self.parts]

    @property
    def _noise_sizes(self) -> list[int]:
        return [math.prod(part.noise_shape) for part in self.parts]

    def _parameters(self, parameters: Tensor) -> tuple[Tensor, ...]:
        return torch.split(parameters, [part.parameter_size for part in self.parts], dim=-1)

    def _joined(self, actions: list[Tensor]) -> Tensor:
        return torch.cat([chosen.to(self.action_dtype) for chosen in actions], dim=-1)


def _sum(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum(0)


def gaussian_size(distribution: ActionDistribution) -> int:
    """Return how many numbers of an action are normal; their log standard deviations are the last parameters."""
    if isinstance(distribution, Joint):
        return gaussian_size(distribution.parts[-1])
    return distribution.size if isinstance(distribution, DiagonalGaussian) else 0
