#!/usr/bin/env bash
# torch.export.save refuses a program whose module has an empty buffer that came from a NumPy array.
#
# Versions: torch 2.13.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-11-29.
#
# Expected: a buffer of no elements is saved like any other, whoever allocated it.
#
# Behaviour: an empty buffer made by torch.from_numpy stops torch.export.save with an error that speaks of an overflow of
# integers. The same buffer made by torch.zeros, or cloned, is saved, and the loaded program computes the same numbers.
#
# Why it matters: statistics kept in NumPy (means of the parts of an observation, say) become buffers by from_numpy. Where
# a task has no such part they are empty, and only then does the export fail, at its last step.
#
# Output that was seen (exit status 0):
#
#     torch.zeros(0): saved, and computes [2.0, 2.0, 2.0]
#     torch.from_numpy(empty): RuntimeError: numel: integer multiplication overflow
#     torch.from_numpy(empty).clone(): saved, and computes [2.0, 2.0, 2.0]
#     torch.from_numpy of one number: saved, and computes [2.0, 2.0, 2.0]
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import torch


class Doubled(torch.nn.Module):
    def __init__(self, empty):
        super().__init__()
        self.register_buffer("empty", empty)

    def forward(self, rows):
        return 2 * rows + self.empty.sum()


def saved(empty):
    rows = torch.ones(3)
    program = torch.export.export(Doubled(empty), (rows,))
    file = io.BytesIO()
    try:
        torch.export.save(program, file)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    file.seek(0)
    return f"saved, and computes {torch.export.load(file).module()(rows).tolist()}"


outcomes = {
    "torch.zeros(0)": saved(torch.zeros(0)),
    "torch.from_numpy(empty)": saved(torch.from_numpy(np.zeros(0, np.float32))),
    "torch.from_numpy(empty).clone()": saved(torch.from_numpy(np.zeros(0, np.float32)).clone()),
    "torch.from_numpy of one number": saved(torch.from_numpy(np.zeros(1, np.float32))),
}
for name, outcome in outcomes.items():
    print(f"{name}: {outcome}")
fine = "saved, and computes [2.0, 2.0, 2.0]"
refused = outcomes.pop("torch.from_numpy(empty)")
changes = [name for name, outcome in outcomes.items() if outcome != fine]
if "overflow" not in refused:
    changes.append(f"torch.from_numpy(empty) gave {refused}")
for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
