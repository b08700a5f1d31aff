#!/usr/bin/env bash
# torch.func.functional_call leaves a module changed that holds one layer under two names.
#
# Versions: torch 2.13.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-11-28.
#
# Expected: functional_call runs a module with other parameters for one call. Afterwards the module is what it was: its
# attributes are its own `torch.nn.Parameter` objects.
#
# Behaviour: this holds for a module whose layers are all different. If one layer stands under two names, its weight is
# afterwards the tensor that was given to the call, for good. It is no Parameter, and where it was computed from something
# (a view of one long vector), it is no leaf either. `parameters()` still yields it. `tie_weights=False` avoids it.
# Nothing is said, and the next call computes the right numbers; copy.deepcopy of the module then raises.
#
# Why it matters: code that computes gradients of one flat vector by functional_call hands in views of it. After the first
# call an optimizer, a checkpoint or a copy of the module works on these views instead of the module's own parameters.
#
# Output that was seen (exit status 0):
#
#     two layers: parameters before 4, own objects after the call True, Parameter True, leaf True
#     two layers: deepcopy afterwards: works
#     one layer, two names: parameters before 2, own objects after the call False, Parameter False, leaf False
#     one layer, two names: deepcopy afterwards: RuntimeError
#     one layer, two names, tie_weights=False: parameters before 2, own objects after the call True, Parameter True, leaf True
#     one layer, two names, tie_weights=False: deepcopy afterwards: works
#     the three outputs are those of the module itself: [True, True, True]
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - <<'PYTHON'
import copy
import sys

import torch
from torch import nn
from torch.func import functional_call

changes = []


class Two(nn.Module):
    """Apply a first and a second layer; they may be one object."""

    def __init__(self, tied):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first if tied else nn.Linear(3, 3)

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs)))


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def views_of(vector, parameters):
    found, start = {}, 0
    for name, parameter in parameters.items():
        found[name] = vector[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return found


def copied(module):
    try:
        copy.deepcopy(module)
    except RuntimeError as error:
        return type(error).__name__
    return "works"


def call_once(text, tied, options, intact):
    torch.manual_seed(0)
    module, inputs = Two(tied), torch.linspace(-1, 1, 6).view(2, 3)
    parameters = dict(module.named_parameters())
    plain = module(inputs).detach()
    vector = torch.cat([parameter.detach().flatten() for parameter in parameters.values()]).requires_grad_()
    output = functional_call(module, views_of(vector, parameters), (inputs,), **options)
    after = module.first.weight
    own = after is parameters["first.weight"]
    seen = f"own objects after the call {own}, Parameter {isinstance(after, nn.Parameter)}, leaf {after.is_leaf}"
    wanted = f"own objects after the call {intact}, Parameter {intact}, leaf {intact}"
    count = 2 if tied else 4
    expect(text, f"parameters before {len(parameters)}, {seen}", f"parameters before {count}, {wanted}")
    expect(f"{text}: deepcopy afterwards", copied(module), "works" if intact else "RuntimeError")
    return torch.equal(output, plain)


outputs = [
    call_once("two layers", False, {}, True),
    call_once("one layer, two names", True, {}, False),
    call_once("one layer, two names, tie_weights=False", True, {"tie_weights": False}, True),
]
expect("the three outputs are those of the module itself", outputs, [True, True, True])

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
