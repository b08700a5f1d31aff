"""Scale observations and rewards by statistics that are part of the policy's state and are fixed during a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppolab.core.moments import Moments, merged, no_samples
from ppolab.core.observation_rows import RowLayout

CLIP = 10.0
"""Scaled observations and rewards are kept within this many standard deviations."""

EPSILON = 1e-8
"""Added to a variance before its root, so that a constant component becomes 0 instead of NaN."""


@dataclass(frozen=True)
class FrozenScaling:
    """(x - mean) / std as it was when a rollout began; in NumPy, as environments give arrays.

    Attributes:
        layout: of the rows, whose images are left as they are.
    """

    mean: NDArray[np.float64]
    inverse_std: NDArray[np.float64]
    layout: RowLayout
    limit: float = CLIP

    def __call__(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Return rows [N, W] for the network of raw rows [N, W]."""
        scaled = self.layout.vector_of(raw) - self.mean
        scaled *= self.inverse_std
        return self.layout.scaled(raw, np.clip(scaled, -self.limit, self.limit).astype(np.float32))


class RunningScale(nn.Module):
    """Moments kept as buffers, so that every checkpoint and every copy of the policy carries them.

    A switched-off scale keeps no statistics and changes nothing but the type.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...], enabled: bool) -> None:
        super().__init__()
        self.enabled = enabled
        empty = no_samples(shape)
        self.register_buffer("count", empty.count)
        self.register_buffer("mean", empty.mean)
        self.register_buffer("variance", empty.variance)

    @property
    def moments(self) -> Moments:
        """Return the statistics so far."""
        return Moments(self.count, self.mean, self.variance)

    def merge(self, new: Moments) -> None:
        """Add a rollout's moments (over all processes) to the statistics."""
        if not self.enabled:
            return
        union = merged(Moments(self.count.cpu(), self.mean.cpu(), self.variance.cpu()), new)
        self.count.copy_(union.count)
        self.mean.copy_(union.mean)
        self.variance.copy_(union.variance)

    def frozen(self, layout: RowLayout | None = None) -> FrozenScaling:
        """Return the current scaling as plain arrays; later merges do not change it.

        Args:
            layout: of the rows that hold what is scaled; None: they hold nothing else.
        """
        mean = self.mean.cpu().numpy().copy()
        layout = layout or RowLayout(mean.size)
        if not self.enabled:
            return FrozenScaling(mean, np.ones_like(mean), layout, limit=np.inf)
        deviation = torch.sqrt(self.variance + EPSILON)
        return FrozenScaling(mean, (1.0 / deviation).cpu().numpy(), layout)

    def standardized(self, values: Tensor) -> Tensor:
        """Return (x - mean) / deviation."""
        return (values - self.mean) / torch.sqrt(self.variance + EPSILON) if self.enabled else values

    def restored(self, values: Tensor) -> Tensor:
        """Return the x that `standardized` made `values` of."""
        return values * torch.sqrt(self.variance + EPSILON) + self.mean if self.enabled else values

    def scale_rewards(self, rewards: Tensor) -> Tensor:
        """Return rewards [T, N] divided by the deviation of discounted returns.

        The mean is not subtracted: that would change the task.
        """
        if not self.enabled or self.count == 0:
            return rewards
        deviation = torch.sqrt(self.variance + EPSILON).to(rewards)
        return (rewards / deviation).clamp(-CLIP, CLIP)
