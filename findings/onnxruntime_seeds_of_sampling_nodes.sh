#!/usr/bin/env bash
# Two nodes of an ONNX model that draw random numbers are not independent in ONNX Runtime, and small seeds begin alike.
#
# Versions: onnxruntime 1.32.0 (CPU, Linux), onnx 1.23.2, numpy 2.4.6, Python 3.11.
# Seen: 2026-12-01.
#
# Expected: a policy with two action heads can be exported with its sampling: each head becomes a Multinomial node. The heads are
# drawn independently. onnxruntime.set_seed(s) gives a sequence that has nothing to do with that of another seed.
#
# Behaviour: a node without a seed of its own gets the global seed plus its position in the graph, and the generator is a linear
# congruential one. Two such streams with neighbouring seeds differ, at each draw, by a distance that is the same for every seed. So
# - two heads with six equal choices begin with 12 of the 36 joint actions over 1000 seeds: the first choice leaves two for the second;
# - the first uniform number of 1000 seeds is always below 0.01: "explore if below 0.1" explores in the first step of all;
# - the second node under one seed draws exactly what the first node draws under the next seed, and seeds 0 and 1 are one.
# The control: within one session, the draws one after another show all joint actions and all of the unit interval.
#
# Why it matters: who evaluates with one session and one seed per episode, or starts one worker per seed, gets first actions of a few
# kinds only, and noise of one seed that returns in another. Averages over such seeds look steadier than they are.
#
# What to do: sample outside of the model, or give random numbers to it as an input. Other oddities of these seeds were
# reported before: all sessions of one process begin alike (microsoft/onnxruntime issue 27771).
#
# Output that was seen (exit status 0):
#
#     one session: joint actions of 36 in 1000 draws: 36
#     a session per seed: joint actions of 36 in 1000 first draws: 12
#     one session: largest of 1000 numbers is below 0.01: False
#     a session per seed: largest of 1000 first numbers is below 0.01: True
#     second node of seed 5 draws what the first node of seed 6 draws: True
#     seeds 0 and 1 draw the same in the first node: True
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

changes = []
SEEDS = range(1000)


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def model(nodes, inputs, kind):
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in ("first", "second")]
    graph = helper.make_graph(nodes, "policy", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return made.SerializeToString()


def session(content, seed):
    onnxruntime.set_seed(seed)
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def joint(draws):
    """How many different pairs of choices there are."""
    return len({(int(first[0, 0]), int(second[0, 0])) for first, second in draws})


logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 6])
policy = model([helper.make_node("Multinomial", ["logits"], [name]) for name in ("first", "second")], [logits], TensorProto.INT32)
same = {"logits": np.zeros((1, 6), np.float32)}
one = session(policy, 7)
expect("one session: joint actions of 36 in 1000 draws", joint(one.run(None, same) for _ in SEEDS), 36)
seen = joint(session(policy, seed).run(None, same) for seed in SEEDS)
expect("a session per seed: joint actions of 36 in 1000 first draws", seen, 12)

uniform = model([helper.make_node("RandomUniform", [], [name], shape=[3]) for name in ("first", "second")], [], TensorProto.FLOAT)
one = session(uniform, 7)
expect("one session: largest of 1000 numbers is below 0.01", bool(max(one.run(None, {})[0][0] for _ in SEEDS) < 0.01), False)
first = [session(uniform, seed).run(None, {})[0][0] for seed in SEEDS]
expect("a session per seed: largest of 1000 first numbers is below 0.01", bool(max(first) < 0.01), True)
drawn = {seed: session(uniform, seed).run(None, {}) for seed in (0, 1, 5, 6)}
expect("second node of seed 5 draws what the first node of seed 6 draws", bool(np.array_equal(drawn[5][1], drawn[6][0])), True)
expect("seeds 0 and 1 draw the same in the first node", bool(np.array_equal(drawn[0][0], drawn[1][0])), True)

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
