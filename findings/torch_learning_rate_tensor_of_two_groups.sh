#!/usr/bin/env bash
# A learning rate given as a tensor is one tensor for all groups of an optimizer: schedules of the groups overwrite one another.
#
# Versions: torch 2.13.0, Python 3.11.
# Seen: 2026-12-01.
#
# Expected: PyTorch's recipe for a compiled optimizer with a schedule says to give the learning rate as a tensor. Then a schedule
# should yield the same learning rates as with a number, only without compiling again.
#
# Behaviour: each group of parameters without a learning rate of its own gets the default tensor itself, not a copy, and
# schedules write into it. So with two groups, such as actor and critic,
# - LambdaLR with one function per group gives both groups the rate of the last one;
# - ReduceLROnPlateau with a factor of 0.5 reduces to a quarter, once for each group;
# - CyclicLR begins with the last group's base rate in both.
# No message. A checkpoint keeps it so: the groups share a tensor after torch.load and load_state_dict, too.
# The controls: with a number, or with a tensor of its own in each group, all rates are as expected.
#
# Why it matters: an annealed actor beside a critic with a constant rate trains with the critic's constant rate.
#
# What to do: give each group its own tensor. Others of this family were reported and mended in part: schedules that alias
# their own base rates (pytorch issues 162359 and 163103).
#
# Output that was seen (exit status 0):
#
#     LambdaLR (half, constant): number [0.05, 0.1], one tensor [0.1, 0.1], own tensors [0.05, 0.1]
#     ReduceLROnPlateau by 0.5: number [0.05, 0.05], one tensor [0.025, 0.025], own tensors [0.05, 0.05]
#     CyclicLR from (0.1, 0.2): number [0.1, 0.2], one tensor [0.2, 0.2], own tensors [0.1, 0.2]
#     after a checkpoint the groups share one tensor: True
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

import torch
from torch.optim import lr_scheduler

changes = []


def expect(line, expected):
    print(line)
    if line != expected:
        changes.append(f"expected '{expected}', seen '{line}'")


def optimizer(kind):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]} for _ in ("actor", "critic")]
    if kind == "own tensors":
        for group in groups:
            group["lr"] = torch.tensor(0.1)
    return torch.optim.SGD(groups, lr=0.1 if kind == "number" else torch.tensor(0.1))


def half_and_constant(made):
    schedule = lr_scheduler.LambdaLR(made, [lambda step: 0.5**step, lambda step: 1.0])
    made.step()
    schedule.step()


def plateau(made):
    schedule = lr_scheduler.ReduceLROnPlateau(made, factor=0.5, patience=0)
    for _ in range(2):
        schedule.step(1.0)


def cyclic(made):
    lr_scheduler.CyclicLR(made, base_lr=[0.1, 0.2], max_lr=[1.0, 2.0])


def rates(schedule):
    told = []
    for kind in ("number", "one tensor", "own tensors"):
        made = optimizer(kind)
        schedule(made)
        told.append(f"{kind} {[round(float(group['lr']), 4) for group in made.param_groups]}")
    return ", ".join(told)


expect(f"LambdaLR (half, constant): {rates(half_and_constant)}",
       "LambdaLR (half, constant): number [0.05, 0.1], one tensor [0.1, 0.1], own tensors [0.05, 0.1]")
expect(f"ReduceLROnPlateau by 0.5: {rates(plateau)}",
       "ReduceLROnPlateau by 0.5: number [0.05, 0.05], one tensor [0.025, 0.025], own tensors [0.05, 0.05]")
expect(f"CyclicLR from (0.1, 0.2): {rates(cyclic)}",
       "CyclicLR from (0.1, 0.2): number [0.1, 0.2], one tensor [0.2, 0.2], own tensors [0.1, 0.2]")
stored = io.BytesIO()
torch.save(optimizer("one tensor").state_dict(), stored)
stored.seek(0)
loaded = optimizer("one tensor")
loaded.load_state_dict(torch.load(stored))
shared = loaded.param_groups[0]["lr"] is loaded.param_groups[1]["lr"]
expect(f"after a checkpoint the groups share one tensor: {shared}", "after a checkpoint the groups share one tensor: True")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
