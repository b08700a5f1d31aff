"""What a run leaves out of PyTorch, torchmetrics and MLflow is there for whoever asks for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from commands import TRAIN, run_command

LEFT_OUT = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
from ppolab.runtime import deferred_imports
from ppolab.runtime.fast_imports import import_lightning, lean_imports

with lean_imports():
    import_lightning()
if not deferred_imports.is_deferred():
    sys.exit(77)  # a version of PyTorch that is imported whole
"""
USED = """
first = importlib.import_module(sys.argv[2])
first.__dict__.get("__all__")
import torch
branches = torch.compile(lambda x: torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,)), backend="eager")
print(branches(torch.ones(2)).tolist())
print(type(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))).__name__)
print(torch.func.grad(lambda x: x * x)(torch.tensor(2.0)).item(), torch.vmap(lambda x: 2 * x)(torch.ones(3)).tolist())
print(first is sys.modules[sys.argv[2]], first.__spec__.name == sys.argv[2], deferred_imports.is_deferred())
import torchmetrics
print(torchmetrics.MeanMetric.__name__, issubclass(torchmetrics.MeanMetric, torchmetrics.Metric))
"""


@pytest.mark.parametrize(
    "first", ["torch.distributions", "torch._higher_order_ops", "torch.fx.experimental.proxy_tensor", "torch._dynamo"]
)
def test_what_is_left_out_is_there_whatever_is_asked_for_first(first: str, tmp_path: Path) -> None:
    answer = run_command(tmp_path, (sys.executable, "-c", LEFT_OUT + USED, TRAIN.parent, first))
    if answer.code == 77:
        pytest.skip("this version of PyTorch is imported whole")
    assert answer.out.splitlines() == [
        "[2.0, 2.0]",
        "ExportedProgram",
        "4.0 [2.0, 2.0, 2.0]",
        "True True False",
        "MeanMetric True",
    ], answer.err


WAITS = """
import torch
print("torch._meta_registrations" in sys.modules, "torch._prims" in sys.modules)
torch.optim.Adam(torch.nn.Linear(2, 2).to("cpu").parameters())
torch.Generator().manual_seed(0)
print(deferred_imports.is_deferred(), "torchmetrics" in sys.modules)
from ppolab.runtime.user_code import named_object
print(named_object("callbacks=[json:JSONDecoder]", "json:JSONDecoder", "").__name__, deferred_imports.is_deferred())
print("torch._prims" in sys.modules)
"""


def test_it_waits_until_code_of_the_users_is_imported(tmp_path: Path) -> None:
    answer = run_command(tmp_path, (sys.executable, "-c", LEFT_OUT + WAITS, TRAIN.parent))
    if answer.code == 77:
        pytest.skip("this version of PyTorch is imported whole")
    assert answer.out.splitlines() == ["True False", "True False", "JSONDecoder False", "True"], answer.err
