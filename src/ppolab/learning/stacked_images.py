"""Keep images whose channels are earlier frames with each frame once: a stack of four then takes a quarter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.observation_rows import RowLayout


@dataclass(frozen=True)
class StackedImages:
    """Rows [..., W] of images of C channels, put together from single channels when they are asked for.

    Attributes:
        channels: [K, W / C] bytes.
        places: [..., C] which of them; [T, N, C] of a rollout.
    """

    channels: Tensor
    places: Tensor

    @property
    def shape(self) -> torch.Size:
        """[..., W]."""
        return torch.Size((*self.places.shape[:-1], self.places.shape[-1] * self.channels.shape[1]))

    def __getitem__(self, times: slice) -> StackedImages:
        """Return some of the rows, by the first axis."""
        return StackedImages(self.channels, self.places[times])

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return copies [K, W] of the rows at `index` [K], as of a tensor [T * N, W]."""
        assert dim == 0
        chosen = self.chosen(index)
        return self.channels.index_select(0, chosen.places.view(-1)).view(len(index), -1)

    def chosen(self, index: Tensor) -> StackedImages:
        """Return the same rows, not yet put together."""
        return StackedImages(self.channels, self.places.flatten(0, -2).index_select(0, index))

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield copies [size, W] of all rows in turn, as of a tensor [T * N, W]; the last ones may be fewer."""
        count = self.places.shape[0] * self.places.shape[1]
        return (self.index_select(0, part) for part in torch.split(torch.arange(count), size))


def whole(rows: Tensor | StackedImages) -> Tensor:
    """Return all rows [T, N, W] as one tensor."""
    if isinstance(rows, Tensor):
        return rows
    return rows.index_select(0, torch.arange(rows.shape[0] * rows.shape[1])).view(rows.shape)


def last_rows(rows: Tensor | StackedImages) -> Tensor:
    """Return the rows [N, W] of the last time."""
    if isinstance(rows, Tensor):
        return rows[-1]
    return rows[-1:].index_select(0, torch.arange(rows.shape[1]))


class ChannelStore:
    """Memory for T rows of N environments, which every rollout fills anew.

    A channel that equals the next one of the environment's row before is not stored again. So a stack of frames costs
    one frame, and images of any other kind cost what they are. Memory for the worst case is reserved, but the system
    gives only as much of it as is written.
    """

    def __init__(self, duration: int, num_envs: int, layout: RowLayout) -> None:
        channels = layout.images[0].channels
        self._channels = np.empty((duration * num_envs * channels, layout.raw_width // channels), dtype=np.uint8)
        self._places = np.zeros((duration, num_envs, channels), dtype=np.int64)
        self._used = 0

    def __setitem__(self, place: tuple[int, slice], rows: NDArray[np.uint8]) -> None:
        """Store rows [n, W] of some environments at a time; times follow one another, and 0 begins anew."""
        time, envs = place
        places = self._places[time, envs]
        channels = rows.reshape(*places.shape, -1)
        new = np.ones(places.shape, dtype=np.bool_)
        if time > 0:
            before = self._places[time - 1, envs, 1:]
            new[:, :-1] = (_words(channels[:, :-1]) != _words(self._channels[before])).any(axis=2)
            places[:, :-1] = before
        elif envs.start in (None, 0):
            self._used = 0
        count = int(new.sum())
        places[new] = np.arange(self._used, self._used + count)
        self._channels[self._used : self._used + count] = channels[new]
        self._used += count

    def __getitem__(self, place: tuple[int, slice]) -> NDArray[np.uint8]:
        """Return copies [n, W] of rows that were stored."""
        places = self._places[place]
        return self._channels[places].reshape(len(places), -1)

    def images(self) -> StackedImages:
        """Return all rows, in memory that the next rollout fills anew."""
        return StackedImages(torch.from_numpy(self._channels), torch.from_numpy(self._places))


def can_store(layout: RowLayout) -> bool:
    """Return whether rows are one image whose channels lie one after another, and nothing else."""
    if layout.vector_size or len(layout.images) != 1:
        return False
    image = layout.images[0]
    return not image.channels_last and image.channels > 1


def _words(channels: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Return the bytes of channels [..., B] eight at a time where that is possible: they are compared faster."""
    return channels.view(np.uint64) if channels.shape[-1] % 8 == 0 else channels
