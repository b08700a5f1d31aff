"""What a fresh process imports, and what it leaves out (tests/unit/runtime has what needs no fresh process)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from commands import TRAIN, metric_rows, run_command

WITHOUT_COMPILER = """
import sys
sys.path.insert(0, sys.argv[1])
from ppolab.runtime.fast_imports import COMPILER, import_lightning, lean_imports

with lean_imports():
    import_lightning()
import torch
import lightning_fabric.wrappers
import pytorch_lightning.utilities.compile as lightning

torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).load_state_dict({"state": {}, "param_groups": [{"params": [0]}]})
network = torch.nn.Linear(2, 2)
print(COMPILER in sys.modules, isinstance(network, lightning.OptimizedModule))
compiled = torch.compile(network, backend="eager")
print(COMPILER in sys.modules, torch.equal(compiled(torch.ones(1, 2)), network(torch.ones(1, 2))))
print(isinstance(compiled, lightning.OptimizedModule), isinstance(compiled, lightning_fabric.wrappers.OptimizedModule))
print(isinstance(network, lightning.OptimizedModule), type(compiled) is torch._dynamo.OptimizedModule)
"""


def test_compiler_is_imported_by_who_compiles(tmp_path: Path) -> None:
    answer = run_command(tmp_path, (sys.executable, "-c", WITHOUT_COMPILER, TRAIN.parent))
    assert answer.out.split() == ["False", "False", "True", "True", "True", "True", "False", "True"], answer.err


WANTS_MORE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from ppolab.runtime.fast_imports import COMPILER, import_lightning

import_lightning()
print("pytorch_lightning" in sys.modules, COMPILER in sys.modules)
import pytorch_lightning
print(pytorch_lightning.wanted)
"""


@pytest.mark.parametrize(
    ("lightning", "stays"),
    [
        ("from torch._dynamo import allow_in_graph as wanted", False),
        ("import importlib.util\nwanted = importlib.util.find_spec('torch._dynamo')", False),
        ("import torch\nwanted = torch.compiler.disable()(len)", True),
        ("import torch\nwanted = torch._dynamo.disable(reason='')(len)", True),
    ],
)
def test_lightning_that_asks_the_compiler_otherwise_is_answered(tmp_path: Path, lightning: str, stays: bool) -> None:
    (tmp_path / "pytorch_lightning.py").write_text(lightning)
    answer = run_command(tmp_path, (sys.executable, "-c", WANTS_MORE, TRAIN.parent, tmp_path))
    imported, wanted = answer.out.splitlines()
    assert imported == f"{stays} False", answer.err
    assert wanted != "None"


A_RUN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from ppolab.cli.commands import train
from ppolab.runtime.fast_imports import COMPILER

try:
    train()
finally:
    print(COMPILER in sys.modules)
"""


@pytest.mark.parametrize(
    ("settings", "imported"),
    [
        ("compile=true model.activation=gelu", False),
        ("compile=true model.dropout=0.1", True),
        ("compile=false model.dropout=0.1", False),
    ],
)
def test_only_what_is_compiled_needs_the_compiler(tmp_path: Path, settings: str, imported: bool) -> None:
    small = "env=cartpole total_steps=4096 eval_episodes=1 logger=none"
    answer = run_command(tmp_path, (sys.executable, "-c", A_RUN, TRAIN.parent, *small.split(), *settings.split()))
    assert answer.out.splitlines()[-1] == str(imported), answer.err


KNOWN_TO_ENVPOOL = """
import sys
sys.path.insert(0, sys.argv[1])
from ppolab.config.schema import EnvConfig
from ppolab.envs.factory import choose_backend

for name in sys.argv[2:]:
    print(choose_backend(EnvConfig(id=name)), "envpool.entry" in sys.modules, "envpool.mujoco.gym" in sys.modules)
"""


def test_of_envpool_only_the_families_are_imported_that_are_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    names = ("my_module:CartPole-v1", "Nowhere-v0", "CartPole-v1", "FrozenLake-v1", "Pong-v5", "HalfCheetah-v5")
    answer = run_command(tmp_path, (sys.executable, "-c", KNOWN_TO_ENVPOOL, TRAIN.parent, *names))
    backends = ("gymnasium", "gymnasium", "envpool", "envpool", "envpool", "envpool")
    mujoco = (False, False, False, False, False, True)
    found = [f"{backend} False {asked}" for backend, asked in zip(backends, mujoco, strict=True)]
    assert answer.out.splitlines() == found, answer.err


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
def test_without_quick_imports_a_run_computes_the_same(backend: str, tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    settings = f"env=cartpole env.backend={backend} total_steps=4096 eval_episodes=2 logger=none trainer.threads=1"
    rows = []
    for switch, compiler in (("1", False), ("0", True)):
        command = ("env", f"PPOLAB_FAST_IMPORTS={switch}", sys.executable, "-c", A_RUN, TRAIN.parent)
        answer = run_command(tmp_path, (*command, *settings.split(), f"hydra.run.dir={switch}"))
        assert answer.out.splitlines()[-1] == str(compiler), answer.err
        rows.append(
            [
                {key: value for key, value in row.items() if not key.startswith("time/")}
                for row in metric_rows(tmp_path / switch)
            ]
        )
    assert rows[0] == rows[1] != []
