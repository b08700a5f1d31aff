"""Keep one observation, of several parts, as one row of an array: a vector, then images.

Everything that collects, stores and shuffles observations then handles rows, whatever they hold. Without images a row
is the vector itself. With images it is bytes: the numbers of the vector first, then the pixels, one byte each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RAW, SCALED = np.dtype(np.float64), np.dtype(np.float32)
"""Types of the vector's numbers as an environment gives them, and as a network takes them."""


@dataclass(frozen=True)
class VectorPart:
    """Numbers in an observation that are no image.

    Attributes:
        name: its place in a Dict or Tuple, empty where it is all.
        shape: of its numbers, where one-hot vectors stand for discrete values.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ImagePart:
    """An image in an observation.

    Attributes:
        name: its place in a Dict or Tuple, empty where the image is all.
        shape: three numbers, in the environment's order.
        channels_last: height, width, channels; else channels, height, width.
    """

    name: str
    shape: tuple[int, int, int]
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.name or 'the observation'} {self.shape}"

    @property
    def size(self) -> int:
        """Pixels times channels, which is the number of bytes."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Numbers of a pixel."""
        return self.shape[2] if self.channels_last else self.shape[0]

    @property
    def height_and_width(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        return self.shape[:2] if self.channels_last else self.shape[1:]

    @property
    def channels_first(self) -> tuple[int, int, int]:
        """Channels, height, width: the shape that a network sees."""
        return (self.channels, *self.height_and_width)


@dataclass(frozen=True)
class RowLayout:
    """Say what a row holds: a vector of D numbers, then images.

    A row is padded with bytes to a multiple of the size of the vector's numbers, which lie at its start.

    Attributes:
        vectors: what the numbers of the vector are, one after another; empty where nobody asks for their names.
    """

    vector_size: int
    images: tuple[ImagePart, ...] = ()
    vectors: tuple[VectorPart, ...] = ()

    @property
    def image_bytes(self) -> int:
        """Bytes of all images."""
        return sum(image.size for image in self.images)

    @property
    def raw_dtype(self) -> np.dtype[Any]:
        """Type of the rows that environments give."""
        return np.dtype(np.uint8) if self.images else RAW

    @property
    def raw_width(self) -> int:
        """Length of such a row."""
        return self._width(RAW)

    @property
    def scaled_width(self) -> int:
        """Length of a row that a network takes."""
        return self._width(SCALED)

    def image_places(self, vector_bytes: int) -> list[slice]:
        """Return where the images lie in a row whose vector takes so many bytes."""
        ends = np.cumsum([image.size for image in self.images]) + vector_bytes
        return [slice(int(end) - image.size, int(end)) for end, image in zip(ends, self.images, strict=True)]

    def packed(self, vector: NDArray[np.float64], images: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        """Return raw rows [N, W] of vectors [N, D] and images [N, ...]; of a single part without copying it."""
        if not self.images:
            return vector
        if len(images) == 1 and not self.vector_size:
            return images[0].reshape(len(images[0]), self.image_bytes)
        rows = np.zeros((len(images[0]), self.raw_width), dtype=np.uint8)
        self.vector_of(rows)[:] = vector
        for place, image in zip(self.image_places(RAW.itemsize * self.vector_size), images, strict=True):
            rows[:, place] = image.reshape(len(image), place.stop - place.start)
        return rows

    def vector_of(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Return the vectors [..., D] in raw rows [..., W], without copying them."""
        if not self.images:
            return raw
        return raw[..., : RAW.itemsize * self.vector_size].view(RAW)

    def scaled(self, raw: NDArray[Any], vector: NDArray[np.float32]) -> NDArray[Any]:
        """Return rows for a network, of raw rows [..., W] and their vectors [..., D] after scaling.

        Rows that are images only are returned as they are.
        """
        if not self.images:
            return vector
        if not self.vector_size:
            return raw
        rows = np.zeros((*raw.shape[:-1], self.scaled_width), dtype=np.uint8)
        first, raw_first = SCALED.itemsize * self.vector_size, RAW.itemsize * self.vector_size
        rows[..., :first].view(SCALED)[:] = vector
        rows[..., first : first + self.image_bytes] = raw[..., raw_first : raw_first + self.image_bytes]
        return rows

    def _width(self, number: np.dtype[Any]) -> int:
        if not self.images:
            return self.vector_size
        used = number.itemsize * self.vector_size + self.image_bytes
        return -(-used // number.itemsize) * number.itemsize if self.vector_size else used
