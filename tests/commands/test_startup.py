"""What imports leave out: absent while they last, there afterwards."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.metadata
import importlib.util
import signal
import sys
from pathlib import Path

import pytest

from commands import TRAIN, run_command
from ppolab import startup
from ppolab.startup import heeded_interrupt, lean_imports

ABSENT = "hatchling"
"""Any package that is installed and that these tests do not need."""


@pytest.fixture(autouse=True)
def optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "OPTIONAL", (ABSENT, "json"))
    for name in [name for name in sys.modules if name.partition(".")[0] == ABSENT]:
        monkeypatch.delitem(sys.modules, name)  # another test may have imported it


def test_optional_package_is_absent_only_meanwhile() -> None:
    with lean_imports():
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{ABSENT}'"):
            importlib.import_module(ABSENT)
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(ABSENT)
        assert importlib.metadata.version("torch")
    assert importlib.util.find_spec(ABSENT)
    assert importlib.metadata.version(ABSENT)


def test_what_was_imported_before_stays_whole() -> None:
    assert "json" in sys.modules
    with lean_imports():
        importlib.import_module("json.tool")


@pytest.mark.parametrize("collecting", [True, False])
def test_collector_is_as_before_even_after_an_error(collecting: bool) -> None:
    finders = list(sys.meta_path)
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(ImportError), lean_imports():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
    assert sys.meta_path == finders


WITHOUT_COMPILER = """
import sys
sys.path.insert(0, sys.argv[1])
from ppolab.startup import COMPILER, import_lightning, lean_imports

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
from ppolab.startup import COMPILER, import_lightning

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
from ppolab.cli import train
from ppolab.startup import COMPILER

try:
    train()
finally:
    print(COMPILER in sys.modules)
"""


@pytest.mark.parametrize(("activation", "imported"), [("tanh", False), ("gelu", True)])
def test_only_networks_unknown_to_the_native_code_need_the_compiler(
    tmp_path: Path, activation: str, imported: bool
) -> None:
    settings = f"env=cartpole total_steps=4096 eval_episodes=1 logger=none compile=true model.activation={activation}"
    answer = run_command(tmp_path, (sys.executable, "-c", A_RUN, TRAIN.parent, *settings.split()))
    assert answer.out.splitlines()[-1] == str(imported), answer.err


KNOWN_TO_ENVPOOL = """
import sys
sys.path.insert(0, sys.argv[1])
from ppolab.config import EnvConfig
from ppolab.envs import choose_backend
from ppolab.envs.envpool_families import register_family

for name in sys.argv[2:]:
    register_family(EnvConfig(id=name))
    print(choose_backend(EnvConfig(id=name)), "matplotlib" in sys.modules)
"""


def test_envpool_is_asked_for_other_families_when_they_are_needed(tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    names = ("HalfCheetah-v5", "CartPole-v1", "my_module:CartPole-v1", "FrozenLake-v1", "Nowhere-v0")
    answer = run_command(tmp_path, (sys.executable, "-c", KNOWN_TO_ENVPOOL, TRAIN.parent, *names))
    found = ["envpool False", "envpool False", "gymnasium False", "envpool True", "gymnasium True"]
    assert answer.out.splitlines() == found, answer.err


def test_an_interrupt_that_a_package_swallows_is_raised_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), heeded_interrupt():
        with contextlib.suppress(BaseException):  # as some packages do
            signal.raise_signal(signal.SIGINT)
        swallowed = True
    assert swallowed
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_nothing_is_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with heeded_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
