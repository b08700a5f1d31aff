#!/usr/bin/env bash
# The gradient of a categorical entropy is NaN where forbidden logits are the lowest number and the entropy weighs over 1.
#
# Versions: torch 2.13.0, Python 3.11.
# Seen: 2026-11-29.
#
# Expected: a choice of probability 0 adds nothing to the entropy, and nothing to its gradient, whatever its logit is.
# torch.distributions.Categorical clamps the logits in its entropy, so that the lowest finite number is safe: the entropy
# itself is right.
#
# Behaviour: with torch.finfo(torch.float32).min in place of forbidden logits, the entropy's gradient is right while the
# factor before it is at most 1. With a factor of 1.5 or 2 the backward pass multiplies the clamped logit, the lowest
# number there is, by it; that is minus infinity, and times the probability 0 NaN, in the gradients of all allowed logits.
# With -1e9 every factor gives the right gradient.
#
# Why it matters: masks of actions are made this way, and an entropy bonus of reinforcement learning has such a factor. A
# loss that is averaged over a batch hides it (factors are small then), one that is summed does not.
#
# Output that was seen (exit status 0):
#
#     lowest number, factor 0.5: -0.0588 0.0588 0.0000
#     lowest number, factor 1.0: -0.1175 0.1175 0.0000
#     lowest number, factor 1.5: nan nan 0.0000
#     lowest number, factor 2.0: nan nan 0.0000
#     -1e9, factor 0.5: -0.0588 0.0588 0.0000
#     -1e9, factor 1.0: -0.1175 0.1175 0.0000
#     -1e9, factor 1.5: -0.1763 0.1763 0.0000
#     -1e9, factor 2.0: -0.2350 0.2350 0.0000
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" -W ignore - <<'PYTHON'
import math
import sys

import torch
from torch.distributions import Categorical

ALLOWED = torch.tensor([True, True, False])


def slope(low, factor):
    logits = torch.tensor([0.3, -0.2, 0.1], requires_grad=True)
    entropy = Categorical(logits=torch.where(ALLOWED, logits, torch.tensor(low))).entropy()
    (factor * entropy).backward()
    return logits.grad.tolist()


changes = []
for name, low in (("lowest number", torch.finfo(torch.float32).min), ("-1e9", -1e9)):
    right = slope(-1e9, 1.0)
    for factor in (0.5, 1.0, 1.5, 2.0):
        found = slope(low, factor)
        print(f"{name}, factor {factor}:", *(f"{value:.4f}" for value in found))
        nan = math.isnan(found[0]) and math.isnan(found[1])
        as_it_should = all(abs(a - factor * b) < 1e-5 for a, b in zip(found, right))
        if nan != (name == "lowest number" and factor > 1) or not (nan or as_it_should):
            changes.append(f"{name}, factor {factor}")
for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
