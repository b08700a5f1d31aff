"""Cut rollouts into sequences, which policies with memory are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Say which rows of a rollout [T, N] are those of S sequences of L steps.

    A sequence is what one environment did in L steps; the last one of each may end beyond the rollout. Sequences
    without any valid row are left out.

    Attributes:
        rows: [L, S] places in the flat rollout [T * N]. Beyond its end the last row stands again.
        real: [L, S] bool, whether a row is experience: it is there and valid.
        places: [S] which of the [C, N] states at the starts of sequences, flat, each begins with.
    """

    rows: Tensor
    real: Tensor
    places: Tensor


def sequences_of(valid: Tensor, length: int) -> Sequences:
    """Return the sequences of `length` steps in a rollout, or of all of it where that is shorter.

    Args:
        valid: [T, N] bool, which rows are experience.
    """
    steps, envs = valid.shape
    length = min(length, steps)
    times = torch.arange(-(-steps // length) * length, device=valid.device).view(-1, length)  # [C, L]
    places = times.clamp(max=steps - 1).unsqueeze(-1) * envs + torch.arange(envs, device=valid.device)
    rows = places.transpose(0, 1).reshape(length, -1)  # [L, C * N]
    inside = (times < steps).t().repeat_interleave(envs, dim=1)
    real = valid.reshape(-1)[rows] & inside
    kept = real.any(0).nonzero().squeeze(-1)
    return Sequences(rows[:, kept], real[:, kept], kept)


def rows_of(sequences: Tensor, length: int, count: int) -> Tensor:
    """Return the places [L * K] in flat rows [L * S] that hold some of S sequences, time-major.

    Args:
        sequences: [K] which.
        count: S.
    """
    steps = torch.arange(length, device=sequences.device) * count
    return (steps[:, None] + sequences).reshape(-1)
