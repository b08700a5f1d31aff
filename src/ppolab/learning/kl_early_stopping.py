"""Decide by the KL whether an update ends early, and whether its last steps are rolled back."""

from __future__ import annotations

KL_TOLERANCE = 1.5
"""An update ends once the mean KL of the samples that it used last exceeds this many times target_kl."""

KL_SAMPLES = 512
"""That mean is of about so many samples of all ranks: the KL of one minibatch of 64 is noise."""


def ends_update(kl: float, target_kl: float | None) -> bool:
    """Return whether the policy has moved far enough from the one that collected the rollout.

    Args:
        kl: mean of Schulman's k3 estimate over the samples used last, of all ranks.
        target_kl: the setting; None never ends an update early.
    """
    return target_kl is not None and kl > KL_TOLERANCE * target_kl


def broken_kl(target_kl: float) -> float:
    """Return the mean KL above which steps are rolled back: ten times `target_kl`, or 0.2 if that is more.

    Where a policy hardly ever fails, gradients are small for a hundred rollouts. Adam divides by what they were, and so
    makes the first steps after a failure up to twenty times as long as others: eight can end what was learned.
    """
    return max(10 * target_kl, 0.2)
