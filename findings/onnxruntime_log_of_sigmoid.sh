#!/usr/bin/env bash
# F.logsigmoid, and the log probability of a Bernoulli action, are -inf in ONNX Runtime from a logit of -18 on.
#
# Versions: onnxruntime 1.32.0 (CPU, Linux x86), torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnx-ir 1.1.0, numpy 2.4.6, Python 3.11.
# Seen: 2026-12-01.
#
# Expected: log(sigmoid(x)) of an exported model is what PyTorch computes: near x for small x. In 32 bits sigmoid(x) itself is above 0
# down to about -87, so even the two operations one after another would do.
#
# Behaviour: two things meet. The exporter writes F.logsigmoid as Sigmoid and then Log, as it does with
# binary_cross_entropy_with_logits, so with Bernoulli.log_prob, too. And ONNX Runtime's Sigmoid is an approximation that ends at -18: it
# is 0 from there on, and off by a sixth already at -15. So
# - log(sigmoid(-15)) is -14.84, at -17 it is -16.23, at -18 and below -inf. Nothing says so.
# - the log probability of a yes-or-no action is -inf where its logit is -20, and a sum over several actions with it.
# The control: ONNX's own reference evaluator gives -15, -17, -18, -20 for the same file.
#
# Why it matters: sigmoid(-18) is 1.5e-8, and a trained policy has such logits. Exported beside the action, its log
# probability ends importance weights, entropies and scores with an infinity or a NaN far from the place where it began.
#
# What to do: write -F.softplus(-x), which is exported as Softplus and is right (last line). That Sigmoid alone is inexact there
# is known (onnxruntime issue 22557, pytorch issue 147508); it is the logarithm that makes an infinity of an error of 1e-8.
#
# Output that was seen (exit status 0):
#
#     logsigmoid is exported as Sigmoid, Log
#     PyTorch at -15, -17, -18, -20: -15.0 -17.0 -18.0 -20.0
#     reference evaluator: -15.0 -17.0 -18.0 -20.0
#     ONNX Runtime: -14.84 -16.23 -inf -inf
#     ONNX Runtime, log probability of a Bernoulli: -14.84 -16.23 -inf -inf
#     ONNX Runtime, -softplus(-x): -15.0 -17.0 -18.0 -20.0
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0 numpy==2.4.6 \
  || { echo "not tried: the packages could not be installed"; exit 2; }

cd "$work"
"$work/venv/bin/python" -W ignore - 2> "$work/errors.txt" <<'PYTHON' || { tail -n 5 "$work/errors.txt"; exit 1; }
import sys

import onnx
import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator
from torch.nn.functional import logsigmoid, softplus

LOGITS = torch.tensor([-15.0, -17.0, -18.0, -20.0])
changes = []


class Model(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def expect(line, expected):
    print(line, flush=True)
    if line != expected:
        changes.append(f"expected '{expected}', seen '{line}'")


def text(values):
    return " ".join(str(round(float(value), 2)) for value in values)


def exported(function):
    torch.onnx.export(Model(function), (LOGITS,), dynamo=True, verbose=False).save("model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    return text(session.run(None, {session.get_inputs()[0].name: LOGITS.numpy()})[0])


def bernoulli(x):
    return torch.distributions.Bernoulli(logits=x, validate_args=False).log_prob(torch.ones_like(x))


right, wrong = "-15.0 -17.0 -18.0 -20.0", "-14.84 -16.23 -inf -inf"
seen = exported(logsigmoid)
operations = ", ".join(node.op_type for node in onnx.load("model.onnx").graph.node)
expect(f"logsigmoid is exported as {operations}", "logsigmoid is exported as Sigmoid, Log")
expect(f"PyTorch at -15, -17, -18, -20: {text(logsigmoid(LOGITS))}", f"PyTorch at -15, -17, -18, -20: {right}")
evaluator = ReferenceEvaluator("model.onnx")
expect(f"reference evaluator: {text(evaluator.run(None, {evaluator.input_names[0]: LOGITS.numpy()})[0])}", f"reference evaluator: {right}")
expect(f"ONNX Runtime: {seen}", f"ONNX Runtime: {wrong}")
expect(f"ONNX Runtime, log probability of a Bernoulli: {exported(bernoulli)}", f"ONNX Runtime, log probability of a Bernoulli: {wrong}")
expect(f"ONNX Runtime, -softplus(-x): {exported(lambda x: -softplus(-x))}", f"ONNX Runtime, -softplus(-x): {right}")

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
