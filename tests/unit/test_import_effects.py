"""Importing a module changes nothing outside it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core import utils

SOURCE = Path(__file__).parents[2] / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for package in ("ppolab", "hydra_plugins")
    for path in sorted((SOURCE / package).rglob("*.py"))
}
FOR_THEIR_EFFECT = {
    "ppolab.runtime.fork_server_group",
    "hydra_plugins.hydra_ppolab._preload",
    "hydra_plugins.hydra_ppolab._preload_compiler",
    "hydra_plugins.hydra_ppolab._preload_database",
    "hydra_plugins.hydra_ppolab._preload_tracking",
    "hydra_plugins.hydra_ppolab._preload_whole",
    "hydra_plugins.hydra_ppolab.launcher",
    "hydra_plugins.hydra_ppolab.sweeper",
}
"""Modules that a fork server, or Hydra's scan for plugins, imports for what their import does."""
REPLACES_HYDRA = "ppolab.cli.hydra_guard"
STANDS_IN = "ppolab.runtime.fast_imports"


def acts(statement: ast.stmt) -> bool:
    """Whether a statement at the top of a module does more than to define names of that module."""
    match statement:
        case ast.Expr(value=value):
            return not isinstance(value, ast.Constant)
        case ast.Assign(targets=targets):
            return any(not isinstance(target, ast.Name | ast.Tuple) for target in targets)
        case ast.AugAssign() | ast.With() | ast.For() | ast.While() | ast.Try() | ast.Delete():
            return True
        case ast.If(test=test):
            return ast.unparse(test) not in ("TYPE_CHECKING", "not TYPE_CHECKING", "__name__ == '__main__'")
    return False


@pytest.mark.parametrize("name", [name for name in MODULES if name not in FOR_THEIR_EFFECT])
def test_a_module_only_defines_names(name: str) -> None:
    found = [ast.unparse(statement) for statement in ast.parse(MODULES[name].read_text()).body if acts(statement)]
    assert found == []


def test_the_exceptions_are_some() -> None:
    for name in FOR_THEIR_EFFECT:
        assert any(acts(statement) for statement in ast.parse(MODULES[name].read_text()).body), name


def test_the_commands_leave_hydra_and_the_imported_modules_alone() -> None:
    import ppolab.cli.commands  # noqa: F401

    assert utils._save_config.__module__ == "hydra.core.utils"
    assert not hasattr(ConfigLoaderImpl.load_configuration, "__wrapped__")
    assert Hydra.get_mode.__module__ == "hydra._internal.hydra"
    assert not [name for name, module in sys.modules.items() if type(module).__module__ == STANDS_IN]
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == STANDS_IN]


def targets(name: str) -> Iterator[str]:
    """What a module assigns to or deletes, as it is written, at any depth."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Assign | ast.Delete):
            yield from (ast.unparse(target) for target in node.targets)


@pytest.mark.parametrize(
    ("owner", "written"),
    [
        (REPLACES_HYDRA, ("utils._save_config", "ConfigLoaderImpl.", "Hydra.")),
        (STANDS_IN, ("sys.modules[", "sys.meta_path")),
    ],
)
def test_one_file_replaces_what_is_not_ours(owner: str, written: tuple[str, ...]) -> None:
    assert [name for name in MODULES if any(target.startswith(written) for target in targets(name))] == [owner]
