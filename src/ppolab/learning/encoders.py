"""Read the images of an observation with convolutions; what follows sees features and the vector, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ppolab.core.observation_rows import SCALED, ImagePart, RowLayout
from ppolab.errors import ConfigError

SMALLEST_FOR_NATURE = 36
"""Rows and columns below which the layers of the Nature network leave nothing."""


class RowEncoder(nn.Module):
    """Map rows [..., W] with images to features [..., F]: those of every image, and the vector as it is.

    Attributes:
        width: F.
    """

    def __init__(self, layout: RowLayout, encoder: str | None = None) -> None:
        super().__init__()
        self._vector_bytes = SCALED.itemsize * layout.vector_size
        self._places = layout.image_places(self._vector_bytes)
        self._images = layout.images
        self.images = nn.ModuleList(_image_encoder(image, encoder) for image in layout.images)
        with torch.no_grad():
            images = [torch.zeros((1, image.size), dtype=torch.uint8) for image in layout.images]
            self.width = self.features(torch.zeros((1, layout.vector_size)), images).shape[1]

    def forward(self, rows: Tensor) -> Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        vectors = flat[:, : self._vector_bytes]
        if self._vector_bytes:
            vectors = vectors.view(torch.float32)
        features = self.features(vectors, [flat[:, place] for place in self._places])
        return features.reshape(*rows.shape[:-1], self.width)

    def features(self, vectors: Tensor, images: Sequence[Tensor]) -> Tensor:
        """Return features [N, F] of scaled vectors [N, D] and images, each [N, size] bytes."""
        parts = [vectors] if self._vector_bytes else []
        for flat, image, encode in zip(images, self._images, self.images, strict=True):
            parts.append(encode(pixels(flat, image)))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def pixels(flat: Tensor, image: ImagePart) -> Tensor:
    """Return images [N, C, H, W] float32 between 0 and 1, with the channels last in memory, of bytes [N, size]."""
    shaped = flat.unflatten(1, image.shape)  # type: ignore[no-untyped-call]
    if image.channels_last:
        shaped = shaped.permute(0, 3, 1, 2)
    numbers: Tensor = shaped.to(torch.float32, memory_format=torch.channels_last)
    return numbers / 255.0


def _image_encoder(image: ImagePart, encoder: str | None) -> nn.Module:
    """Return a module from [N, C, H, W] to features [N, F].

    Raises:
        ConfigError: the image is too small.
    """
    return ENCODERS[_chosen(image, encoder)](image)


def _chosen(image: ImagePart, encoder: str | None) -> str:
    if encoder is not None:
        return encoder
    return "nature" if min(image.height_and_width) >= SMALLEST_FOR_NATURE else "small"


def nature(image: ImagePart) -> nn.Module:
    """Return the convolutions of Mnih et al. 2015 (doi:10.1038/nature14236), table 1 of the extended data."""
    if min(image.height_and_width) < SMALLEST_FOR_NATURE:
        raise ConfigError(
            f"model.encoder=nature: needs images of {SMALLEST_FOR_NATURE} rows and columns, and {image} is smaller; "
            "leave it out"
        )
    return _convolutions(image, ((32, 8, 4), (64, 4, 2), (64, 3, 1)))


def small(image: ImagePart) -> nn.Module:
    """Return three layers of 3 x 3 for images of few pixels, each of which means something."""
    return _convolutions(image, ((32, 3, 1), (64, 3, 1), (64, 3, 1)), padding=1)


def _convolutions(image: ImagePart, layers: Sequence[tuple[int, int, int]], padding: int = 0) -> nn.Module:
    """Return convolutions with ReLU. layers: (channels, side of the kernel, stride)."""
    modules: list[nn.Module] = []
    inputs = image.channels
    for outputs, side, stride in layers:
        modules += [nn.Conv2d(inputs, outputs, side, stride, padding), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*modules, nn.Flatten())


ENCODERS: dict[str, Callable[[ImagePart], nn.Module]] = {"nature": nature, "small": small}
