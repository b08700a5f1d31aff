"""Actor-critic networks for every supported action space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppolab.core.distributions import (
    ActionDistribution,
    Bernoulli,
    DiagonalGaussian,
    Joint,
    MultiCategorical,
    gaussian_size,
)
from ppolab.core.observation_rows import RowLayout
from ppolab.errors import ConfigError, spelled
from ppolab.learning.encoders import RowEncoder, in_parts
from ppolab.learning.memory import Memory, make_memory
from ppolab.learning.normalization import FrozenScaling, RunningScale
from ppolab.learning.own_network import OwnTrunk, own_networks, own_trunk, refuse_common_parameters
from ppolab.learning.wide_layers import WideLinear

if TYPE_CHECKING:
    from ppolab.config.schema import ModelConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def action_distribution(space: spaces.Space[Any]) -> ActionDistribution:
    """Return the family of distributions over `space`, which `envs` has already checked to be a supported one.

    The parts of a Dict or Tuple are independent of each other. All choices come first, then all bits, then all numbers;
    `ppolab.envs.spaces.action_parts` takes them apart again.
    """
    parts = list(_simple_spaces(space))
    choices = tuple(int(n) for part in parts for n in _choices(part))
    bits = sum(math.prod(part.shape) for part in parts if isinstance(part, spaces.MultiBinary))
    numbers = sum(math.prod(part.shape) for part in parts if isinstance(part, spaces.Box))
    families: list[ActionDistribution] = []
    if choices:
        families.append(MultiCategorical(choices))
    if bits:
        families.append(Bernoulli(bits))
    if numbers or not families:
        families.append(DiagonalGaussian(numbers))
    return families[0] if len(families) == 1 else Joint(tuple(families))


def _simple_spaces(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            yield from _simple_spaces(part)
    else:
        yield space


def _choices(space: spaces.Space[Any]) -> list[int]:
    """Return among how many values each component of a simple space chooses."""
    if isinstance(space, spaces.Discrete):
        return [space.n]
    return list(space.nvec) if isinstance(space, spaces.MultiDiscrete) else []


def distribution_parameters(outputs: Tensor, log_std: Tensor | None) -> Tensor:
    """Return [..., P]: the action head's outputs [..., A], before log_std [G] where the distribution has one."""
    return outputs if log_std is None else torch.cat((outputs, log_std.expand(*outputs.shape[:-1], -1)), dim=-1)


def is_of_the_value(name: str) -> bool:
    """Return whether a parameter of `ActorCritic` serves the value function alone."""
    return name.startswith(("critic.", "critic_memory.", "value_head."))


def is_of_a_head(name: str) -> bool:
    """Return whether a parameter of `ActorCritic` belongs to an output layer."""
    return name.startswith(("action_head.", "value_head."))


class ActorCritic(nn.Module):
    """A policy and a value function over observations whose vectors are already normalised.

    `forward` maps rows [..., W] to (distribution parameters [..., P], values [...]). With memory it needs two further
    arguments, `state` and `starts`: rows are then T steps of B sequences, time-major, [T, B, W] or [T * B, W]; see
    `Memory`. A state holds the actor's rows, then those of a separate critic.
    The normaliser's statistics are part of the module, hence of its `state_dict`.

    Attributes:
        layout: what a row holds.
        actor_memory, critic_memory: recurrent layers between trunk and head; None without memory, and for a critic that
            shares the actor's.
        bf16: compute the trunks in bfloat16; heads and parameters stay in 32 bits.
        masked: not all actions are always allowed. The parameters that the network gives are those of all actions;
            `ppolab.core.masks` turns them into those of the allowed ones.
    """

    log_std: nn.Parameter | None

    def __init__(
        self, layout: RowLayout, distribution: ActionDistribution, config: ModelConfig, *, normalize: bool
    ) -> None:
        super().__init__()
        self.layout = layout
        self.bf16 = False
        self.masked = False
        self.distribution = distribution
        self.observation_scale = RunningScale((layout.vector_size,), enabled=normalize)
        deviations = gaussian_size(distribution)
        shared_std = deviations > 0 and not config.state_dependent_std
        outputs = distribution.parameter_size - (deviations if shared_std else 0)
        self.log_std = nn.Parameter(torch.full((deviations,), config.initial_log_std)) if shared_std else None

        separate = config.trunk == "separate"
        self.actor, width = _trunk(layout, config.sizes_of_actor, config)
        critic, value_width = _trunk(layout, config.sizes_of_critic, config) if separate else (None, width)
        self.critic = critic
        if critic is not None:
            refuse_common_parameters(self.actor, critic)
        self.actor_memory = make_memory(config, width)
        self.critic_memory = make_memory(config, value_width) if separate else None
        if self.actor_memory is not None:
            width = value_width = self.actor_memory.size
        self.action_head = nn.Linear(width, outputs)
        self.value_head = nn.Linear(value_width, 1)
        if config.orthogonal:
            self._initialize_orthogonally()
        if deviations and not shared_std:
            nn.init.constant_(self.action_head.bias[-deviations:], config.initial_log_std)

    def forward(
        self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if state is not None:
            parameters, values, _ = self.remembering(observations, state, starts)
            return parameters, values
        features = self._features(self.actor, observations)
        value_features = features if self.critic is None else self._features(self.critic, observations)
        parameters = distribution_parameters(self.action_head(features), self.log_std)
        return parameters, self.value_head(value_features).squeeze(-1)

    def action_parameters_of(self, vectors: Tensor, images: Sequence[Tensor]) -> Tensor:
        """Return what `action_parameters` does of the parts of rows: scaled vectors [N, D], images, each [N, size]."""
        return distribution_parameters(self.action_head(self._actor_features_of(vectors, images)), self.log_std)

    def act_remembering_parts(self, vectors: Tensor, images: Sequence[Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `act_remembering` does of the parts of rows."""
        return self._stepped(self._actor_features_of(vectors, images), state)

    def _actor_features_of(self, vectors: Tensor, images: Sequence[Tensor]) -> Tensor:
        if not images:
            return self._features(self.actor, vectors)
        if isinstance(self.actor, OwnTrunk):
            return self.actor.features_of(vectors, images)
        assert isinstance(self.actor, nn.Sequential)
        encoder, hidden = self.actor[0], self.actor[1:]
        assert isinstance(encoder, RowEncoder)
        features: Tensor = hidden(encoder.features(vectors, images))
        return features

    @property
    def scaling(self) -> FrozenScaling:
        """The normaliser as it stands now, for raw rows."""
        return self.observation_scale.frozen(self.layout)

    @property
    def has_memory(self) -> bool:
        """Whether answers depend on earlier observations."""
        return self.actor_memory is not None

    @property
    def actor_rows(self) -> int:
        """How many rows of a state are the actor's, which come first; 0 without memory."""
        return 0 if self.actor_memory is None else self.actor_memory.rows

    def no_memories(self, count: int, *, actor_alone: bool = False) -> Tensor:
        """Return the state [K, N, H] of `count` environments before their episodes.

        Args:
            actor_alone: without the rows of a separate critic.
        """
        assert self.actor_memory is not None
        critic = None if actor_alone else self.critic_memory
        rows = self.actor_rows + (0 if critic is None else critic.rows)
        return torch.zeros((rows, count, self.actor_memory.size), device=self.value_head.weight.device)

    def values(self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None) -> Tensor:
        """Return values [...]; skips a separate actor. `state` and `starts` as in `forward`."""
        shared = self.critic is None
        features = self._whole_features(self.actor if self.critic is None else self.critic, observations)
        if state is not None:
            memory = self.actor_memory if shared else self.critic_memory
            own = state[: self.actor_rows] if shared else state[self.actor_rows :]
            features, _ = _remembered(memory, features, own, starts)
        result: Tensor = self.value_head(features)
        return result.squeeze(-1)

    def action_parameters(
        self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> Tensor:
        """Return the parameters [..., P] of the action distribution; skips a separate critic.

        `state` and `starts` as in `forward`; only the actor's rows are read.
        """
        if state is None:
            return distribution_parameters(self.action_head(self._features(self.actor, observations)), self.log_std)
        features = self._whole_features(self.actor, observations)
        features, _ = _remembered(self.actor_memory, features, state[: self.actor_rows], starts)
        return distribution_parameters(self.action_head(features), self.log_std)

    def remembering(
        self, observations: Tensor, state: Tensor, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `forward` returns, and the state [K, B, H] after the last step."""
        rows = self.actor_rows
        trunk_features = self._features(self.actor, observations)
        features, last = _remembered(self.actor_memory, trunk_features, state[:rows], starts)
        value_features = features
        if self.critic is not None:
            of_critic = self._features(self.critic, observations)
            value_features, critic_last = _remembered(self.critic_memory, of_critic, state[rows:], starts)
            last = torch.cat((last, critic_last))
        parameters = distribution_parameters(self.action_head(features), self.log_std)
        return parameters, self.value_head(value_features).squeeze(-1), last

    def act_remembering(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return (distribution parameters [N, P], the actor's state [K, N, H] after this step) of rows [N, W].

        Args:
            state: [K, N, H] the actor's rows, before it.
        """
        return self._stepped(self._features(self.actor, observations), state)

    def _stepped(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        assert self.actor_memory is not None
        outputs, last = self.actor_memory(features.unsqueeze(0), state)
        return distribution_parameters(self.action_head(outputs[0]), self.log_std), last

    def _whole_features(self, trunk: nn.Module, observations: Tensor) -> Tensor:
        """Return the same as `_features`; where there is memory, rows with images are a rollout, and taken in parts."""
        if not self.has_memory or torch.is_grad_enabled():
            return self._features(trunk, observations)
        return in_parts(partial(self._features, trunk), observations)

    def _features(self, trunk: nn.Module, observations: Tensor) -> Tensor:
        """Return the features [..., F] that a trunk makes of rows [..., W]."""
        if self.bf16:
            with torch.autocast(observations.device.type, torch.bfloat16):
                short: Tensor = trunk(observations)
            return short.float()
        features: Tensor = trunk(observations)
        return features

    def _initialize_orthogonally(self) -> None:
        """Draw orthogonal weights with gains sqrt(2) inside, 0.01 for actions and 1 for the value.

        Engstrom et al. 2020 (arXiv:2005.12729). A network of the user's keeps the weights that it came with.
        """
        gains: dict[nn.Module, float] = {self.action_head: 0.01, self.value_head: 1.0}
        memories = [module for module in self.modules() if isinstance(module, Memory)]
        others = {module for part in (*own_networks(self), *memories) for module in part.modules()}
        for module in self.modules():
            if isinstance(module, Memory):
                module.initialize_orthogonally()
            if isinstance(module, nn.Linear | nn.Conv2d) and module not in others:
                nn.init.orthogonal_(module.weight, gains.get(module, math.sqrt(2.0)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class ActorAlone(nn.Module):
    """A module whose output is the policy's distribution parameters, for `functional_call`."""

    def __init__(self, policy: ActorCritic) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.policy.action_parameters(*inputs)


def _remembered(memory: Memory | None, features: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the outputs of `memory`, in the form of `features`: [T, B, F] or [T * B, F]; and the last state."""
    assert memory is not None
    count = state.shape[1]
    outputs, last = memory(
        features.reshape(-1, count, features.shape[-1]), state, None if starts is None else starts.reshape(-1, count)
    )
    return outputs.reshape(*features.shape[:-1], memory.size), last


@contextmanager
def evaluating(policy: nn.Module) -> Iterator[None]:
    """Put `policy` in evaluation mode (no dropout) for a block, then back in the mode it was found in."""
    with _mode(policy, training=False):
        yield


@contextmanager
def training(policy: nn.Module) -> Iterator[None]:
    """Put `policy` in training mode (dropout acts) for a block, then back in the mode it was found in."""
    with _mode(policy, training=True):
        yield


@contextmanager
def _mode(policy: nn.Module, *, training: bool) -> Iterator[None]:
    found = policy.training
    policy.train(training)
    try:
        yield
    finally:
        policy.train(found)


def _trunk(layout: RowLayout, hidden_sizes: list[int], config: ModelConfig) -> tuple[nn.Module, int]:
    """Return hidden layers, or the user's own network, and how many features they give."""
    if config.network is not None:
        own = own_trunk(layout, config)
        return own, own.width
    layers: list[nn.Module] = []
    size = layout.vector_size
    linear = WideLinear if layout.images else nn.Linear
    if layout.images:
        encoder = RowEncoder(layout, config.encoder, config.kwargs)
        layers, size = [encoder], encoder.width
    elif config.encoder:
        raise ConfigError(
            f"model.encoder={spelled(config.encoder)}: reads images, and the observation holds none; leave it out, or "
            "use model=mlp"
        )
    sizes = [size, *hidden_sizes]
    for inputs, outputs in pairwise(sizes):
        layers += [linear(inputs, outputs), ACTIVATIONS[config.activation]()]
        if config.dropout > 0:
            layers.append(nn.Dropout(config.dropout))
    return nn.Sequential(*layers), sizes[-1]
