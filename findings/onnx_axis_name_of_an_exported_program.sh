#!/usr/bin/env bash
# torch.onnx.export of an ExportedProgram drops the name that its dynamic axis was given.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, numpy 2.4.6, Python 3.11.
# Seen: 2026-11-28.
#
# Expected: torch.export.export is told `Dim("batch")` for the first axis. An ONNX file that is made from that program calls
# the axis "batch", as the file does that is made from the module itself with the same arguments.
#
# Behaviour: from the module, the axis is called "batch". From the exported program it has the name of the compiler's own
# symbol, "s" and a number. No warning is given. The name comes back if the same `dynamic_shapes` are given a second time,
# to torch.onnx.export, although the program already holds its axes.
#
# Why it matters: a program that is exported once and then written in several formats has an ONNX file whose axis names
# mean nothing to a reader or a serving program, and they may differ with the next version.
#
# Output that was seen (exit status 0; the number after s is printed as #):
#
#     from the module: inputs {'observation': ['batch', 3], 'mask': ['batch', 2]}, outputs {'action': ['batch', 2]}
#     from the exported program: inputs {'observation': ['s#', 3], 'mask': ['s#', 2]}, outputs {'action': ['s#', 2]}
#     from the exported program, shapes given again: inputs {'observation': ['batch', 3], 'mask': ['batch', 2]}, outputs {'action': ['batch', 2]}
#     warnings that name the axis: 0
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - 2> "$work/errors" <<'PYTHON' || { code=$?; cat "$work/errors" >&2; exit "$code"; }
import re
import sys
import warnings

import torch
from torch import nn

changes = []


class Masked(nn.Module):
    """Give the actions of a small network, with some of them taken out."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, observation, mask):
        return torch.tanh(self.layer(observation)) * mask


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def axes(values):
    found = {}
    for value in values:
        sizes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        found[value.name] = [re.sub(r"^s\d+$", "s#", size) if isinstance(size, str) else size for size in sizes]
    return found


def names_of(source, arguments, **options):
    names = {"input_names": ["observation", "mask"], "output_names": ["action"]}
    graph = torch.onnx.export(source, arguments, dynamo=True, verbose=False, **names, **options).model_proto.graph
    return f"inputs {axes(graph.input)}, outputs {axes(graph.output)}"


def named(axis):
    return f"inputs {{'observation': ['{axis}', 3], 'mask': ['{axis}', 2]}}, outputs {{'action': ['{axis}', 2]}}"


torch.manual_seed(0)
module, arguments = Masked().eval(), (torch.zeros(2, 3), torch.ones(2, 2))
batch = torch.export.Dim("batch")
shapes = {"observation": {0: batch}, "mask": {0: batch}}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    program = torch.export.export(module, arguments, dynamic_shapes=shapes)
    expect("from the module", names_of(module, arguments, dynamic_shapes=shapes), named("batch"))
    caught.clear()
    expect("from the exported program", names_of(program, None), named("s#"))
    lost = [warning for warning in caught if "batch" in str(warning.message)]
    again = names_of(program, None, dynamic_shapes=shapes)
expect("from the exported program, shapes given again", again, named("batch"))
expect("warnings that name the axis", len(lost), 0)

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
