"""Networks for images as a user writes them, for `sample_image_networks:NAME`; some break their contract in one way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Convolution(nn.Module):
    """One layer for one image, as an encoder or as the whole network."""

    def __init__(self, observation_shape: tuple[int, int, int], channels: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(observation_shape[0], channels, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(6)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Dropping(Convolution):
    """With dropout."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(images), 0.3, self.training)


class Parts(nn.Module):
    """An image and vectors, by their names."""

    def __init__(self, observation_shapes: dict[str, tuple[int, ...]], width: int = 6) -> None:
        super().__init__()
        self.shapes = observation_shapes
        self.eye = nn.Sequential(Convolution(observation_shapes["eye"]), nn.Linear(6, width))  # type: ignore[arg-type]
        self.hand = nn.Linear(observation_shapes["hand"][0], width)
        self.drop = nn.Dropout(0.2)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        return self.drop(torch.tanh(self.eye(observations["eye"]) + self.hand(observations["hand"])))


class Everything(nn.Module):
    """The parts themselves, one after another, each flattened."""

    def __init__(self, **about: Any) -> None:
        super().__init__()
        self.about = about

    def forward(self, observations: Any) -> Tensor:
        self.seen = observations
        parts = observations.values() if isinstance(observations, dict) else [observations]
        return torch.cat([part.flatten(1) for part in parts], dim=1)


class Unused(Convolution):
    """With a layer that nothing depends on."""

    def __init__(self, observation_shape: tuple[int, int, int]) -> None:
        super().__init__(observation_shape)
        self.forgotten = nn.Linear(3, 3)


# --- what breaks the contract ----------------------------------------------------------------------------------------


class TooLarge(nn.Module):
    """Has a kernel larger than the image."""

    def __init__(self, observation_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(observation_shape[0], 4, 30)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).flatten(1)


class NotFlat(Convolution):
    """Forgets to flatten."""

    def forward(self, images: Tensor) -> Tensor:
        return self.layers[:2](images)


class OneRow(Convolution):
    """Loses the batch."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).reshape(1, -1)


class Viewing(Convolution):
    """Takes the channels to come first in memory."""

    def forward(self, images: Tensor) -> Tensor:
        return images.view(len(images), -1)


class Doubles(Convolution):
    """Gives numbers of another type."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).double()


class NotFinite(Convolution):
    """Divides by zero."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / 0.0


class ForParts(Parts):
    """Asks for a part that is not there."""

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        return self.hand(observations["hnd"])


def no_module(observation_shape: tuple[int, int, int]) -> Any:
    """Gives a function."""
    return torch.tanh


ready = Convolution((3, 9, 10))


def the_same(observation_shape: tuple[int, int, int]) -> nn.Module:
    """Gives the same network twice."""
    return ready
