"""Which module may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

ROOMS = (
    ("errors", "redaction", "core"),
    ("config", "records"),
    ("runtime", "reports"),
    ("envs", "learning"),
    ("agents",),
    ("training",),
    ("study",),
    ("cli",),
    ("api", "hydra_plugins"),
)
"""The rooms, lowest first: a module imports its own room and lower ones. `ppolab` itself is below all."""

LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
OWNERS = {
    "hydra": {"cli", "config.schema", "hydra_plugins"},
    "pytorch_lightning": {"training"},
    "mlflow": {"records.tracking"},
    "optuna": {"study", "hydra_plugins"},
    "envpool": {"envs"},
    "warp": {"envs.warp"},
    "mujoco_warp": {"envs.warp"},
    "mjlab": {"envs.warp.mjlab_env", "envs.mjlab_choice"},
}
"""Packages that only some rooms or modules may import, since nothing else should change when they do."""

EMPTY_ROOMS = ("config", "records", "runtime", "training")
"""Rooms whose `__init__` imports nothing, so that importing one of their light modules stays light."""

LIGHT = (
    "ppolab", "errors", "redaction", "config", "records.run_log", "records.run_folder", "records.wording",
    "records.comparison", "records.tracking", "records.versions",
    "agents.export_formats",
    "runtime.cores", "runtime.deferred_imports", "runtime.fast_imports", "runtime.memory", "runtime.ranks",
    "runtime.signals", "training.rerun", "training.resume",
    "training.trial",
    "cli", "api", "reports", "envs", "hydra_plugins",
)  # fmt: skip
"""Rooms and modules that answer a mistyped key, and therefore import no package that takes a second, except inside
functions.
"""
NOT_LIGHT = "envs.warp"
"""A part of a light room that is imported inside functions only."""
HEAVY_PACKAGES = {
    "torch", "pytorch_lightning", "mlflow", "envpool", "matplotlib", "mujoco", "mujoco_warp", "optuna", "warp",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Dotted names below ppolab (`core.gae`), the plugins as one, and their files."""
    found = {".".join(path.relative_to(SOURCE / "ppolab").with_suffix("").parts): path for path in _files("ppolab")}
    plugins = {f"hydra_plugins.{path.stem}": path for path in _files("hydra_plugins")}
    return {name.removesuffix(".__init__"): path for name, path in (found | plugins).items()}


def _files(package: str) -> list[Path]:
    return sorted((SOURCE / package).rglob("*.py"))


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Every dotted name that a module imports; `at_import`: without those in functions and for type checking."""
    tree = ast.parse(path.read_text())
    for node in _executed(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            yield from (name.value for name in node.args if isinstance(name, ast.Constant))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not (typing_only or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            yield child
            yield from _executed(child)


def room_of(name: str) -> str:
    return name.partition(".")[0]


def is_one_of(name: str, places: Iterable[str]) -> bool:
    """Whether the module `name` is one of these modules, or lies in one of these rooms."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


MODULES = modules()


INSIDE = [name for name in MODULES if name != "__init__"]


@pytest.mark.parametrize("name", INSIDE)
def test_imports_run_one_way(name: str) -> None:
    room = room_of(name)
    assert room in LEVEL, f"{room} has no place in ROOMS yet"
    for imported in imports(MODULES[name]):
        other = room_of(imported.removeprefix("ppolab."))
        if imported.partition(".")[0] in ("ppolab", "hydra_plugins") and other in LEVEL and other != room:
            assert LEVEL[other] < LEVEL[room], f"{name} imports {imported}, which is not below it"


def test_the_table_names_no_room_that_is_gone() -> None:
    assert set(LEVEL) == {room_of(name) for name in INSIDE}


@pytest.mark.parametrize("room", EMPTY_ROOMS)
def test_importing_a_room_imports_nothing(room: str) -> None:
    assert not list(imports(MODULES[room]))


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_unit_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in (ROOT / "tests/unit").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= {room for room in LEVEL if (SOURCE / "ppolab" / room).is_dir()}


def test_a_report_needs_nothing_of_what_trains() -> None:
    modules = [name for name in MODULES if room_of(name) == "reports"]
    assert modules
    for name in modules:
        rooms = {room_of(imported.removeprefix("ppolab.")) for imported in imports(MODULES[name])}
        assert not {"training", "learning", "envs"} & rooms, name


@pytest.mark.parametrize("package", OWNERS)
def test_package_is_imported_by_its_owners_only(package: str) -> None:
    found = [name for name, path in MODULES.items() if package in {room_of(imported) for imported in imports(path)}]
    assert found, f"nothing imports {package}, which is no name of a package then"
    assert [name for name in found if not is_one_of(name, OWNERS[package])] == []


def is_light(name: str) -> bool:
    """Hydra scans its plugins at every start, but not the modules whose names begin with an underscore."""
    return is_one_of(name, LIGHT) and not name.startswith("hydra_plugins._") and not is_one_of(name, [NOT_LIGHT])


@pytest.mark.parametrize("name", [name for name in MODULES if is_light(name)])
def test_light_modules_import_nothing_heavy(name: str) -> None:
    imported = [each.removeprefix("ppolab.") for each in imports(MODULES[name], at_import=True)]
    assert not HEAVY_PACKAGES & set(map(room_of, imported))
    assert not any(is_one_of(each, [NOT_LIGHT]) for each in imported)


CORE = [name for name in MODULES if room_of(name) == "core"]


@pytest.mark.parametrize("name", CORE)
def test_core_knows_tensors_or_arrays_only(name: str) -> None:
    numbers = "numpy" if name in ("core.statistics", "core.observation_rows") else "torch"
    others = {room_of(imported) for imported in imports(MODULES[name])} - {numbers, "ppolab"}
    assert others <= {"__future__", "math", "dataclasses", "typing", "collections"}
