#!/usr/bin/env bash
# Optimizers that look at the shape of a parameter, on a network whose parameters are views of one flat vector.
#
# Versions: torch 2.13.0 (the CPU build), numpy 2.4.6, Python 3.11.
# Seen: 2026-11-28.
#
# Expected: a network gives the same loss and the same gradients whether each weight matrix and each bias is a
# parameter of its own or all of them are views of one long vector. So the same optimizer, with the same settings,
# would make the same steps. If it cannot, it says so when it is made.
#
# Behaviour:
# - SGD and Adam treat every element alike. They make the same steps both ways.
# - torch.optim.Adafactor keeps one statistic per row and one per column of a matrix. On the flat vector it keeps one
#   per element, as for any vector. It also takes the size of its step from the whole vector, where it took it from
#   each parameter. So it is another algorithm and needs the memory that it was made to save. There is no error and no
#   warning: only the state shows it.
# - torch.optim.Muon refuses the flat vector when it is made.
# - torch.optim.LBFGS and torch.optim.SparseAdam are made without an error and fail at the first step: LBFGS wants a
#   closure, SparseAdam wants sparse gradients. This is not a matter of shape. It is here because it completes the
#   answer for code that takes any optimizer: only a step shows whether it works.
#
# What to do: give Adafactor the parameters of the network and Muon its matrices, not the flat vector.
#
# Output that was seen (exit status 0):
#
#     same loss and gradients both ways: True
#     SGD, greatest difference after 5 steps: 0.0
#     SGD, greatest difference is under 1e-6: True
#     Adam, greatest difference after 5 steps: 0.0
#     Adam, greatest difference is under 1e-6: True
#     Adafactor, state of the first weight and its bias: [{'row_var': (16, 1), 'col_var': (1, 6)}, {'variance': (16,)}]
#     Adafactor, state of the flat vector: [{'variance': (163,)}]
#     Adafactor, greatest difference after 5 steps: 0.0293
#     Adafactor, greatest difference is over 0.01: True
#     Adafactor, warnings: 0
#     Muon of the matrices raises: nothing
#     Muon of the flat vector raises: ValueError: Muon only supports 2D parameters whereas we found a parameter with size: torch.Size([163])
#     LBFGS, making it, raises: nothing
#     LBFGS, step() raises TypeError: LBFGS.step() missing 1 required positional argument: 'closure'
#     LBFGS, step() asks for a closure: True
#     SparseAdam, making it, raises: nothing
#     SparseAdam, step() raises: RuntimeError: SparseAdam does not support dense gradients, please consider Adam instead
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 numpy==2.4.6 || { echo "not tried: the packages could not be installed"; exit 2; }

"$work/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import torch
from torch import nn
from torch.func import functional_call

torch.set_num_threads(1)
changes = []


def expect(text, seen, expected):
    print(f"{text}: {seen}")
    if seen != expected:
        changes.append(f"{text}: expected {expected}, seen {seen}")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def joined(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).detach().clone()


def flat_parameter(net):
    return nn.Parameter(joined(net.parameters()))


def views(net, flat):
    """The parameters of `net`, by name, as views of `flat`."""
    parts = flat.split([parameter.numel() for parameter in net.parameters()])
    return {name: part.view_as(p) for (name, p), part in zip(net.named_parameters(), parts)}


torch.manual_seed(1)
inputs, targets = torch.randn(64, 6), torch.randn(64, 3)


def both_ways(make):
    """Five steps of the same gradients. Returns both optimizers and the greatest difference of their parameters."""
    net = network()
    flat = flat_parameter(net)
    own, one = make(net.parameters()), make([flat])
    for _ in range(5):
        own.zero_grad()
        nn.functional.mse_loss(net(inputs), targets).backward()
        flat.grad = joined(p.grad for p in net.parameters())
        own.step()
        one.step()
    return own, one, (joined(net.parameters()) - flat.detach()).abs().max().item()


def error(action):
    try:
        action()
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"
    return "nothing"


def shapes(optimizer):
    return [{key: tuple(value.shape) for key, value in state.items() if key != "step"} for state in optimizer.state.values()]


# The network is a valid one both ways: the same loss, the same gradients.
net = network()
flat = flat_parameter(net)
loss = nn.functional.mse_loss(net(inputs), targets)
flat_loss = nn.functional.mse_loss(functional_call(net, views(net, flat), (inputs,)), targets)
loss.backward()
flat_loss.backward()
same = torch.allclose(loss, flat_loss) and torch.allclose(joined(p.grad for p in net.parameters()), flat.grad)
expect("same loss and gradients both ways", same, True)

# The control: optimizers that treat every element alike.
for name, make in {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
}.items():
    difference = both_ways(make)[2]
    print(f"{name}, greatest difference after 5 steps: {difference}")
    expect(f"{name}, greatest difference is under 1e-6", difference < 1e-6, True)

# Adafactor: another algorithm, and no word about it.
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    own, one, difference = both_ways(lambda p: torch.optim.Adafactor(p, lr=0.01))
weight, bias = {"row_var": (16, 1), "col_var": (1, 6)}, {"variance": (16,)}
expect("Adafactor, state of the first weight and its bias", shapes(own)[:2], [weight, bias])
expect("Adafactor, state of the flat vector", shapes(one), [{"variance": (163,)}])
print(f"Adafactor, greatest difference after 5 steps: {difference:.4f}")
expect("Adafactor, greatest difference is over 0.01", difference > 0.01, True)
expect("Adafactor, warnings", len(caught), 0)

# Muon: refused when it is made.
matrices = [p for p in network().parameters() if p.ndim == 2]
expect("Muon of the matrices raises", error(lambda: torch.optim.Muon(matrices)), "nothing")
muon = "ValueError: Muon only supports 2D parameters whereas we found a parameter with size: torch.Size([163])"
expect("Muon of the flat vector raises", error(lambda: torch.optim.Muon([flat])), muon)

# Two that are made without an error and fail at the first step.
expect("LBFGS, making it, raises", error(lambda: torch.optim.LBFGS([flat])), "nothing")
lbfgs = error(torch.optim.LBFGS([flat]).step)
print(f"LBFGS, step() raises {lbfgs}")
expect("LBFGS, step() asks for a closure", lbfgs.startswith("TypeError") and "closure" in lbfgs, True)
expect("SparseAdam, making it, raises", error(lambda: torch.optim.SparseAdam([flat])), "nothing")
sparse = "RuntimeError: SparseAdam does not support dense gradients, please consider Adam instead"
expect("SparseAdam, step() raises", error(torch.optim.SparseAdam([flat]).step), sparse)

for change in changes:
    print("CHANGED:", change)
sys.exit(1 if changes else 0)
PYTHON
