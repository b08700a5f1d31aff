"""PPO with the clipped surrogate objective."""

from __future__ import annotations

from ppolab.objective import clipped
from ppolab.update import Learner, Parts


def make(parts: Parts) -> Learner:
    """Schulman et al. 2017 (arXiv:1707.06347), equation 7, in epochs of minibatches; in C++ where that can be had."""
    return Learner(parts, clipped(parts.config.clip), in_native=True)
