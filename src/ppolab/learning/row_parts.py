"""Take rows for a network apart, into the tensors that they hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ppolab.core.observation_rows import SCALED, ImagePart, RowLayout


class RowParts:
    """Know where the parts of a row [W] lie."""

    def __init__(self, layout: RowLayout) -> None:
        self._has_images = bool(layout.images)
        self._vector_bytes = SCALED.itemsize * layout.vector_size
        self._places = layout.image_places(self._vector_bytes)

    def of(self, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return, of rows [N, W], the vectors [N, D] and the images, each [N, size] bytes, without copying them."""
        if not self._has_images:
            return rows, []
        vectors = rows[:, : self._vector_bytes]
        if self._vector_bytes:
            vectors = vectors.view(torch.float32)
        return vectors, [rows[:, place] for place in self._places]


def channels_first(flat: Tensor, image: ImagePart) -> Tensor:
    """Return images [N, C, H, W] of bytes [N, size], without copying them."""
    shaped: Tensor = flat.unflatten(1, image.shape)  # type: ignore[no-untyped-call]
    return shaped.permute(0, 3, 1, 2) if image.channels_last else shaped


def named_vectors(vectors: Tensor, layout: RowLayout) -> dict[str, Tensor]:
    """Return the parts of vectors [N, D] by their names, in their own shapes [N, ...]."""
    sizes = [part.size for part in layout.vectors]
    parts: Sequence[Tensor] = torch.split(vectors, sizes, dim=1)
    return {part.name: values.reshape(-1, *part.shape) for part, values in zip(layout.vectors, parts, strict=True)}
