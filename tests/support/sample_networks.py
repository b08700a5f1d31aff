"""Networks as a user writes them, for `model.network=sample_networks:NAME`; most break their contract in one way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Layer normalisation, a skip connection, and an argument."""

    def __init__(self, observation_size: int, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(observation_size, width)
        self.block = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())

    def forward(self, observations: Tensor) -> Tensor:
        features = self.first(observations)
        return features + self.block(features)


class Dropping(Residual):
    """With dropout."""

    def __init__(self, observation_size: int) -> None:
        super().__init__(observation_size)
        self.drop = nn.Dropout(0.3)

    def forward(self, observations: Tensor) -> Tensor:
        return self.drop(super().forward(observations))


class Tied(nn.Module):
    """One layer under two names."""

    def __init__(self, observation_size: int) -> None:
        super().__init__()
        self.enter = nn.Linear(observation_size, 12)
        self.first = nn.Linear(12, 12)
        self.second = self.first

    def forward(self, observations: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(torch.tanh(self.enter(observations)))))


class TiedWeights(Tied):
    """Two layers with one weight, each with a bias of its own."""

    def __init__(self, observation_size: int) -> None:
        super().__init__(observation_size)
        self.second = nn.Linear(12, 12)
        self.second.weight = self.first.weight


class PartlyFrozen(nn.Module):
    """An encoder that is not trained, below a layer that is."""

    def __init__(self, observation_size: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(observation_size, 8).requires_grad_(False)
        self.trained = nn.Linear(8, 6)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.relu(self.trained(torch.tanh(self.encoder(observations))))


class Lazy(nn.Module):
    """Finds its sizes by itself."""

    def __init__(self, observation_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(7), nn.Tanh(), nn.LazyLinear(5))

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)


class Unused(Residual):
    """With a layer that nothing depends on."""

    def __init__(self, observation_size: int) -> None:
        super().__init__(observation_size)
        self.forgotten = nn.Linear(3, 3)


def of_layers(observation_size: int, *, layers: int = 1) -> nn.Module:
    """A function that makes a network."""
    return nn.Sequential(*[nn.Sequential(nn.Linear(observation_size, observation_size), nn.Tanh())] * layers)


def nothing_to_learn(observation_size: int) -> nn.Module:
    """Features without parameters."""
    return nn.Identity()


# --- what breaks the contract ----------------------------------------------------------------------------------------


class ActorAndCritic(Residual):
    """Gives two things."""

    def forward(self, observations: Tensor) -> Any:
        features = super().forward(observations)
        return features, features.sum(-1)


class Flat(Residual):
    """Loses the dimension of the features."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations)[:, 0]


class Transposed(Residual):
    """Gives features by rows."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).T


class Raises(Residual):
    """Takes another width than it gets."""

    def forward(self, observations: Tensor) -> Tensor:
        return self.first(observations[:, 1:])


class RaisesItself(Residual):
    """Raises by itself."""

    def forward(self, observations: Tensor) -> Tensor:
        raise LookupError("no such lesson\nin this curriculum")


class Doubles(Residual):
    """Has parameters of another type."""

    def __init__(self, observation_size: int) -> None:
        super().__init__(observation_size)
        self.block.double()

    def forward(self, observations: Tensor) -> Tensor:
        return self.block(self.first(observations).double()).float()


class GivesDoubles(Residual):
    """Gives numbers of another type."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).double()


class NotFinite(Residual):
    """Divides by zero."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations) / 0.0


class MixesRows(Residual):
    """Subtracts the mean over the batch."""

    def forward(self, observations: Tensor) -> Tensor:
        features = super().forward(observations)
        return features - features.mean(0)


class Remembers(Residual):
    """Adds what it saw before."""

    last: Tensor | float = 0.0

    def forward(self, observations: Tensor) -> Tensor:
        features = super().forward(observations) + self.last
        self.last = float(features.detach().sum())
        return features


class BatchNormalized(Residual):
    """Has running statistics."""

    def __init__(self, observation_size: int) -> None:
        super().__init__(observation_size)
        self.norm = nn.BatchNorm1d(16)

    def forward(self, observations: Tensor) -> Tensor:
        return self.norm(super().forward(observations))


class Detached(Residual):
    """Cuts its features off."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).detach()


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        return inputs.round()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


class Rounds(Residual):
    """Has a gradient of its own."""

    def forward(self, observations: Tensor) -> Tensor:
        return _Straight.apply(super().forward(observations))


class _OneWay(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        return inputs.round()


class HasNoWayBack(Residual):
    """Has an operation whose gradient is not written."""

    def forward(self, observations: Tensor) -> Tensor:
        return _OneWay.apply(super().forward(observations))


class TooManyRows(Residual):
    """Passes its trial, and raises when it is trained."""

    def forward(self, observations: Tensor) -> Tensor:
        if len(observations) > 10:
            raise LookupError("too many rows")
        return super().forward(observations)


def no_module(observation_size: int) -> Any:
    """Gives a function."""
    return torch.tanh


ready = Residual(3)


def the_same(observation_size: int) -> nn.Module:
    """Gives the same network twice."""
    return ready
