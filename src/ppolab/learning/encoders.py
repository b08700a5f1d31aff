"""Read the images of an observation with convolutions; what follows sees features and the vector, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ppolab.core.observation_rows import SCALED, ImagePart, RowLayout
from ppolab.learning.image_networks import image_network

ROWS_AT_ONCE = 256
"""Observations with images that are looked at together where a whole rollout is."""


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
        self.images = nn.ModuleList(image_network(image, encoder) for image in layout.images)
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
            parts.append(encode(channels_first(flat, image)))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def in_parts(answer: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return `answer` to rows [..., W]; where they hold images, part by part: features of all need much memory."""
    if rows.dtype != torch.uint8:
        return answer(rows)
    answers = torch.cat([answer(part) for part in torch.split(rows.reshape(-1, rows.shape[-1]), ROWS_AT_ONCE)])
    return answers.reshape(*rows.shape[:-1], *answers.shape[1:])


def channels_first(flat: Tensor, image: ImagePart) -> Tensor:
    """Return images [N, C, H, W] of bytes [N, size], without copying them."""
    shaped: Tensor = flat.unflatten(1, image.shape)  # type: ignore[no-untyped-call]
    return shaped.permute(0, 3, 1, 2) if image.channels_last else shaped
