#!/usr/bin/env bash
# The first gradient by torch.func imports PyTorch's compiler and SymPy, although nothing is compiled.
#
# Versions: torch 2.13.0, sympy 1.14.0, Python 3.11.
# Seen: 2026-11-29.
#
# Expected: torch.func.grad and torch.autograd.grad differ in their form; neither needs torch._dynamo in eager mode.
#
# Behaviour: torch.func.grad asks torch._dynamo to stand aside while it differentiates, and that question imports it, with
# SymPy and hundreds of modules more. torch.autograd.grad and vmap do not. An operator that torch.library.custom_op makes
# does the same at its first call under a transform. The process keeps the memory for good.
#
# Why it matters: a program that only ever runs eagerly, such as a worker of which many run side by side, grows by tens of
# megabytes each and starts seconds later, for the one call. Imports of "import torch" itself show nothing of it.
#
# Output that was seen (exit status 0; megabytes vary, and the seconds are of a busy machine):
#
#     autograd.grad: imported neither torch._dynamo nor sympy; 0 modules, 4 MB, 0.1 s
#     func.vmap: imported neither torch._dynamo nor sympy; 0 modules, 3 MB, 0.0 s
#     func.grad: imported torch._dynamo, sympy; 804 modules, 73 MB, 12.8 s
#
# Exit status: 0 while all of this is still so, 1 if something changed, 2 if the packages could not be installed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet torch==2.13.0 sympy==1.14.0 || { echo "not tried: the packages could not be installed"; exit 2; }

cat > "$work/one.py" <<'PYTHON'
import resource
import sys
import time

import torch


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def loss(weights):
    return (weights * weights).sum()


weights = torch.ones(3)
before, modules, begun = peak(), len(sys.modules), time.perf_counter()
if sys.argv[1] == "autograd.grad":
    point = weights.requires_grad_()
    (answer,) = torch.autograd.grad(loss(point), point)
elif sys.argv[1] == "func.vmap":
    answer = torch.func.vmap(lambda weight: 2 * weight)(weights)
else:
    answer = torch.func.grad(loss)(weights)
assert answer.tolist() == [2.0, 2.0, 2.0]
there = [name for name in ("torch._dynamo", "sympy") if name in sys.modules]
print(
    f"{sys.argv[1]}: imported {', '.join(there) or 'neither torch._dynamo nor sympy'}; {len(sys.modules) - modules} modules, "
    f"{peak() - before:.0f} MB, {time.perf_counter() - begun:.1f} s"
)
PYTHON

changed=0
for call in autograd.grad func.vmap func.grad; do
  said=$("$work/venv/bin/python" -W ignore "$work/one.py" "$call")
  echo "$said"
  case "$call:$said" in
    func.grad:*"imported torch._dynamo, sympy;"*) ;;
    autograd.grad:*"imported neither"* | func.vmap:*"imported neither"*) ;;
    *) echo "CHANGED: $call"; changed=1 ;;
  esac
done
exit $changed
