#!/usr/bin/env bash
# A program of torch.export with a free batch size refuses a batch of one, if a reshape names another input's batch size.
#
# Versions: torch 2.13.0, Python 3.11.
# Seen: 2026-11-29.
#
# Expected: both inputs have the same free dimension, so rows.reshape(-1, state.shape[1], 4) is a leading axis of one, for
# every batch. The export says nothing else, and its example has two rows.
#
# Behaviour: the export succeeds, and the program keeps a guard that the quotient of the batch size by itself is not the
# batch size. For one row it is, so a batch of one stops with AssertionError, and two or three rows work. The same module
# written with unsqueeze(0) takes one, two and three rows.
#
# Why it matters: a recurrent policy takes observations and states, is exported with an example of two because one would fix
# the size, and then plays one environment at a time.
#
# Output that was seen (exit status 0):
#
#     reshape, batch of 1: AssertionError
#     reshape, batch of 2: (2, 4)
#     reshape, batch of 3: (3, 4)
#     unsqueeze, batch of 1: (1, 4)
#     unsqueeze, batch of 2: (2, 4)
#     unsqueeze, batch of 3: (3, 4)
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch.export import Dim


class Reshaped(torch.nn.Module):
    def forward(self, rows, state):
        return rows.reshape(-1, state.shape[1], 4)[0] + state[0]


class Unsqueezed(torch.nn.Module):
    def forward(self, rows, state):
        return rows.unsqueeze(0)[0] + state[0]


def answers(module):
    batch = Dim("batch")
    example = (torch.zeros(2, 4), torch.zeros(1, 2, 4))
    exported = torch.export.export(module, example, dynamic_shapes={"rows": {0: batch}, "state": {1: batch}}).module()
    for count in (1, 2, 3):
        try:
            yield count, str(tuple(exported(torch.ones(count, 4), torch.zeros(1, count, 4)).shape))
        except Exception as error:
            yield count, type(error).__name__


changes = []
for name, module in (("reshape", Reshaped()), ("unsqueeze", Unsqueezed())):
    for count, answer in answers(module):
        print(f"{name}, batch of {count}: {answer}")
        expected = "AssertionError" if (name, count) == ("reshape", 1) else f"({count}, 4)"
        if answer != expected:
            changes.append(f"{name}, batch of {count}")
for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
