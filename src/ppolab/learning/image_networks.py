"""Networks for one image: from bytes [N, C, H, W] to features [N, F]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ppolab.core.observation_rows import ImagePart
from ppolab.errors import ConfigError
from ppolab.learning.stacked_images import StackedImages

SMALLEST_FOR_NATURE = 36
"""Rows and columns below which the layers of the Nature network leave nothing."""
MOST_FOR_SMALL = 256
"""Pixels up to which an image that is too small for the Nature network is read without losing any: 16 x 16."""
MOST_PLACES = 64
"""Rows times columns that layers which halve them leave."""
BLOCKS = (16, 32, 32)
"""Channels of the three blocks of the IMPALA network."""
CATEGORIES, EMBEDDED = 16, 16
"""How many values of a cell's number the grid network tells apart, and into how many numbers each becomes."""


class Pixels(nn.Module):
    """Scale bytes to between 0 and 1, with the channels last in memory, where convolutions are faster."""

    def forward(self, images: Tensor) -> Tensor:
        interleaved = images.contiguous(memory_format=torch.channels_last)  # as bytes, which takes less than as numbers
        return interleaved.to(torch.float32, memory_format=torch.channels_last).div_(255.0)


class Convolutions(nn.Sequential):
    """Convolutions of images [N, C, H, W] of bytes, each followed by ReLU; gives flat features [N, F].

    Attributes:
        all_at_once: computes the same, faster; used where nobody differentiates twice. Given channels [K, H, W] and
            places [N, C], it reads images that consist of these.
    """

    all_at_once: Callable[..., Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.all_at_once is not None and self._is_once:
            return self.all_at_once(images)
        return self._one_by_one(images)

    def of_stacks(self, stacks: StackedImages, height_and_width: tuple[int, int]) -> Tensor:
        """Return what `forward` does, without putting the images together where that can be."""
        channels = stacks.channels.view(-1, *height_and_width)
        if self.all_at_once is not None and self._is_once:
            return self.all_at_once(channels, stacks.places)
        return self._one_by_one(channels[stacks.places])

    def _one_by_one(self, features: Tensor) -> Tensor:
        for module in self:
            features = module(features)
        return features

    @property
    def _is_once(self) -> bool:
        return self.training or not torch.is_grad_enabled()

    @property
    def layers(self) -> list[nn.Conv2d]:
        """The convolutions, in their order."""
        return [module for module in self if isinstance(module, nn.Conv2d)]


def nature(image: ImagePart) -> nn.Module:
    """Return the convolutions of Mnih et al. 2015 (doi:10.1038/nature14236), which are 32, 64 and 64 wide.

    Raises:
        ConfigError: the image is too small.
    """
    if min(image.height_and_width) < SMALLEST_FOR_NATURE:
        raise ConfigError(
            f"model.encoder=nature: needs images of {SMALLEST_FOR_NATURE} rows and columns, and {image} is smaller; "
            f"{_instead(image)}"
        )
    return _convolutions(image, ((32, 8, 4), (64, 4, 2), (64, 3, 1)))


def small(image: ImagePart) -> nn.Module:
    """Return three layers of 3 x 3 that keep every pixel, for images of few."""
    return _convolutions(image, ((32, 3, 1), (64, 3, 1), (64, 3, 1)), padding=1)


def halving(image: ImagePart) -> nn.Module:
    """Return layers of 3 x 3 that halve rows and columns until 64 places are left; three layers at least."""
    height, width = image.height_and_width
    strides = []
    while height * width > MOST_PLACES:
        height, width = -(-height // 2), -(-width // 2)
        strides.append(2)
    strides += [1] * (3 - len(strides))
    layers = [(32 if index == 0 else 64, 3, stride) for index, stride in enumerate(strides)]
    return _convolutions(image, layers, padding=1)


def impala(image: ImagePart) -> nn.Module:
    """Return the residual network of Espeholt et al. 2018 (arXiv:1802.01561), figure 3, without its LSTM."""
    return nn.Sequential(Pixels(), *_blocks(image.channels), nn.ReLU(), nn.Flatten())


def impoola(image: ImagePart) -> nn.Module:
    """Return the same with the mean over all pixels in place of flattening: Trumpp et al. 2025 (arXiv:2503.05546)."""
    return nn.Sequential(Pixels(), *_blocks(image.channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def minigrid(image: ImagePart) -> nn.Module:
    """Return a network for a grid whose cells hold categories: each is embedded, then three layers of 2 x 2 follow.

    Chevalier-Boisvert et al. 2023 (arXiv:2306.13831) describe such grids: kind, colour and state of what is in a cell.

    Raises:
        ConfigError: the grid is too small.
    """
    if min(image.height_and_width) < 4:
        raise ConfigError(
            f"model.encoder=minigrid: needs grids of 4 rows and columns, and {image} is smaller; {_instead(image)}"
        )
    layers: list[nn.Module] = [Embedded(image.channels)]
    inputs = EMBEDDED
    for outputs in (32, 64, 64):
        layers += [nn.Conv2d(inputs, outputs, 2), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten())


class Embedded(nn.Module):
    """Add up learned vectors, one for each number of a cell: [N, C, H, W] bytes to [N, E, H, W].

    Values from `CATEGORIES` - 1 on share one vector.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.table: Tensor = nn.Parameter(torch.randn(channels * CATEGORIES, EMBEDDED) / channels**0.5)
        self.register_buffer("first", CATEGORIES * torch.arange(channels).view(1, channels, 1, 1))
        self.first: Tensor

    def forward(self, images: Tensor) -> Tensor:
        rows = images.to(torch.int64).clamp(max=CATEGORIES - 1) + self.first
        cells: Tensor = self.table[rows].sum(1)
        return cells.permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Add two convolutions to what they see."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        added: Tensor = self.second(torch.relu(self.first(torch.relu(features))))
        return features + added


def _blocks(channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for outputs in BLOCKS:
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            Residual(outputs),
            Residual(outputs),
        ]
        channels = outputs
    return layers


def _convolutions(image: ImagePart, layers: Sequence[tuple[int, int, int]], padding: int = 0) -> nn.Module:
    """Return convolutions with ReLU. layers: (channels, side of the kernel, stride)."""
    modules: list[nn.Module] = [Pixels()]
    inputs = image.channels
    for outputs, side, stride in layers:
        modules += [nn.Conv2d(inputs, outputs, side, stride, padding), nn.ReLU()]
        inputs = outputs
    return Convolutions(*modules, nn.Flatten())


NETWORKS: Mapping[str, Callable[[ImagePart], nn.Module]] = {
    "nature": nature,
    "impala": impala,
    "impoola": impoola,
    "minigrid": minigrid,
    "small": small,
    "halving": halving,
}


def image_network(image: ImagePart, name: str | None) -> nn.Module:
    """Return the network of this name; None: the one of `default_network`.

    Raises:
        ConfigError: the image is too small.
    """
    return NETWORKS[name or default_network(image)](image)


def default_network(image: ImagePart) -> str:
    """Return the name of the network that reads an image where none is named."""
    if min(image.height_and_width) >= SMALLEST_FOR_NATURE:
        return "nature"
    return "small" if math.prod(image.height_and_width) <= MOST_FOR_SMALL else "halving"


def _instead(image: ImagePart) -> str:
    """Return what to set where the network of the configuration does not fit an image."""
    fits = default_network(image)
    return f"set model.encoder.{image.name}={fits}" if image.name else f"use {fits}, or leave it out"
