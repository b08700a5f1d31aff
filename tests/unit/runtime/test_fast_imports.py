"""Quick imports: what is absent while they last is there afterwards."""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import importlib.util
import sys
from types import ModuleType

import pytest

from ppolab.runtime import fast_imports
from ppolab.runtime.fast_imports import SWITCH, import_lightning, lean_imports, stand_in

ABSENT = "hatchling"
"""Any package that is installed and that these tests do not need."""


@pytest.fixture(autouse=True)
def optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_imports, "OPTIONAL", (ABSENT, "json"))
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


def test_the_stand_in_is_found_inside_the_block_only() -> None:
    module = ModuleType("nowhere_else")
    with stand_in(module):
        assert importlib.import_module("nowhere_else") is module
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nowhere_else")


def test_the_stand_in_does_not_replace_what_is_there() -> None:
    with stand_in(ModuleType("json")):
        assert hasattr(importlib.import_module("json"), "dumps")
    assert "json" in sys.modules


def test_a_real_module_that_takes_the_place_of_the_stand_in_stays() -> None:
    real = ModuleType("replaced_meanwhile")
    with stand_in(ModuleType("replaced_meanwhile")):
        sys.modules["replaced_meanwhile"] = real
    assert sys.modules.pop("replaced_meanwhile") is real


def test_the_switch_turns_all_of_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    finders, imported = list(sys.meta_path), []
    monkeypatch.setattr(fast_imports.importlib, "import_module", imported.append)
    monkeypatch.delitem(sys.modules, fast_imports.COMPILER, raising=False)
    with lean_imports():
        assert sys.meta_path == finders
        assert gc.isenabled()
        import_lightning()
    with stand_in(ModuleType("nowhere_else")):
        assert "nowhere_else" not in sys.modules
    assert imported == []
