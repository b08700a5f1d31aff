"""Read the images of an observation with convolutions; what follows sees features and the vector, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppolab.config.schema import ModelConfig, flattened
from ppolab.core.observation_rows import ImagePart, RowLayout
from ppolab.errors import ConfigError, nearest
from ppolab.learning.image_networks import Convolutions, default_network, image_network
from ppolab.learning.own_network import own_encoder
from ppolab.learning.row_parts import RowParts, channels_first
from ppolab.learning.stacked_images import StackedImages

Encoder = str | Mapping[str, Any] | None
"""`model.encoder`: one name for every image, or names by those of the images."""

ROWS_AT_ONCE = 128
"""Observations with images that are looked at together where a whole rollout is."""


class RowEncoder(nn.Module):
    """Map rows [..., W] with images to features [..., F]: those of every image, and the vector as it is.

    Attributes:
        width: F.
    """

    def __init__(self, layout: RowLayout, encoder: Encoder = None, kwargs: Mapping[str, Any] | None = None) -> None:
        """Make the networks of all images.

        Args:
            kwargs: arguments of those that are the user's own.

        Raises:
            ConfigError: an encoder does not fit its image, breaks its contract, or is for an image that is not there.
        """
        super().__init__()
        self._parts = RowParts(layout)
        self._has_vector = layout.vector_size > 0
        self._images = layout.images
        names = encoders_of(layout, encoder)
        self.images = nn.ModuleList(
            _encoder(image, *names.get(image.name, ("", None)), kwargs or {}) for image in layout.images
        )
        self.eval()  # dropout of the user's would draw random numbers
        with torch.no_grad():
            images = [torch.zeros((1, image.size), dtype=torch.uint8) for image in layout.images]
            self.width = self.features(torch.zeros((1, layout.vector_size)), images).shape[1]
        self.train()

    def forward(self, rows: Tensor | StackedImages) -> Tensor:
        if isinstance(rows, StackedImages):
            (network,), (image,) = self.images, self._images
            assert isinstance(network, Convolutions), "`reads_stacks`"
            return network.of_stacks(rows, image.height_and_width)
        flat = rows.reshape(-1, rows.shape[-1])
        return self.features(*self._parts.of(flat)).reshape(*rows.shape[:-1], self.width)

    @property
    def reads_stacks(self) -> bool:
        """Whether it reads images faster that are not yet put together from their channels."""
        return all(isinstance(network, Convolutions) and network.all_at_once is not None for network in self.images)

    def features(self, vectors: Tensor, images: Sequence[Tensor]) -> Tensor:
        """Return features [N, F] of scaled vectors [N, D] and images, each [N, size] bytes."""
        parts = [vectors] if self._has_vector else []
        for flat, image, encode in zip(images, self._images, self.images, strict=True):
            parts.append(encode(channels_first(flat, image)))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def _encoder(image: ImagePart, key: str, name: str | None, kwargs: Mapping[str, Any]) -> nn.Module:
    if name is not None and ":" in name:
        return own_encoder(key, name, image, kwargs)
    return image_network(image, name)


def note_on_encoders(layout: RowLayout, model: ModelConfig) -> str | None:
    """Return which networks read the images, where the configuration does not say so."""
    if not layout.images or model.encoder or model.network is not None:
        return None
    read = ", ".join(f"{image} is read by {default_network(image)}" for image in layout.images)
    return f"model.encoder=null: {read}; model=nature_cnn, impala_cnn and minigrid add hidden layers that suit images"


def encoders_of(layout: RowLayout, encoder: Encoder) -> dict[str, tuple[str, str | None]]:
    """Return, by the names of images, the setting that chooses an encoder, and its value.

    Raises:
        ConfigError: there is no such image.
    """
    images = [image.name for image in layout.images]
    if not isinstance(encoder, Mapping):
        return dict.fromkeys(images, ("model.encoder", encoder))
    names = flattened(encoder)
    for name, value in names.items():
        if images == [""]:
            raise ConfigError(
                f"model.encoder.{name}={value}: the observation is one image, without a name; write "
                f"model.encoder={value}"
            )
        if name not in images:
            raise ConfigError(
                f"model.encoder.{name}={value}: the observation has no image {name}; its images are "
                f"{', '.join(images)}{nearest(name, images)}"
            )
    return {name: (f"model.encoder.{name}", value) for name, value in names.items()}


def in_parts(answer: Callable[[Tensor], Tensor], rows: Tensor | StackedImages) -> Tensor:
    """Return `answer` to rows [..., W]; where they hold images, part by part: features of all need much memory."""
    if isinstance(rows, Tensor) and rows.dtype != torch.uint8:
        return answer(rows)
    flat = rows.reshape(-1, rows.shape[-1]) if isinstance(rows, Tensor) else rows
    answers = torch.cat([answer(part) for part in flat.split(ROWS_AT_ONCE)])
    return answers.reshape(*rows.shape[:-1], *answers.shape[1:])
