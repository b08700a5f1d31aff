"""Keep a categorical policy to the actions that are allowed: Huang & Ontanon 2022 (arXiv:2006.14171), section 4.

The logits of all others become `IMPOSSIBLE`, whose probability is exactly 0. Sampling, log-probability, entropy and KL
divergence are then those of the distribution over the allowed actions alone, and so are their gradients. The masked
logits say themselves which actions were allowed, so what keeps them need not keep the mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppolab.core.distributions import IMPOSSIBLE


def masked_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the logits [..., A], those where `mask` [..., A] bool is false so low that they are never drawn."""
    return torch.where(mask, logits, IMPOSSIBLE)


def masked_alike(logits: Tensor, masked: Tensor) -> Tensor:
    """Return the logits [..., A] with the mask that was put on `masked` [..., A]."""
    return masked_logits(logits, masked > IMPOSSIBLE)
