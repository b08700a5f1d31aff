"""Decide by the KL whether an update ends early, and whether its last steps are rolled back."""

from __future__ import annotations

KL_TOLERANCE = 1.5
"""An update ends once the mean KL of the samples that it used last exceeds this many times target_kl."""

KL_SAMPLES = 512
"""That mean is of about so many samples of all ranks: the KL of one minibatch of 64 is noise."""


def broken_kl(target_kl: float) -> float:
    """Return the mean KL above which steps are rolled back: ten times `target_kl`, or 0.2 if that is more.

    Where a policy hardly ever fails, gradients are small for a hundred rollouts. Adam divides by what they were, and so
    makes the first steps after a failure up to twenty times as long as others: eight can end what was learned.
    """
    return max(10 * target_kl, 0.2)
