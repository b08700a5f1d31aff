"""What a function or a class of the user says about its algorithm."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from ppolab.errors import ConfigError
from ppolab.runtime.own_algorithm import described


def plain(context: Any, *, width: float = 0.2, steps: int = 3, mode: str | None = None) -> Any:
    """Settings only."""


class WithFacts:
    """A class with facts."""

    ignores = ("clip",)
    ranges = {"width": "> 0"}  # noqa: RUF012

    def __init__(self, context: Any, *, width: float = 0.2) -> None: ...


def no_default(context: Any, *, width: float) -> Any: ...


def no_context(*, width: float = 0.1) -> Any: ...


def a_fact(context: Any, *, ignores: bool = False) -> Any: ...


def odd(context: Any, *, width: object = object()) -> Any: ...


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")
    for each in (plain, WithFacts, no_default, no_context, a_fact, odd):
        setattr(module, each.__name__, each)
    module.THREE = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)


def test_parameters_by_keyword_are_settings() -> None:
    assert described("mine:plain") == {"name": "mine:plain", "ignores": [], "width": 0.2, "steps": 3, "mode": None}


def test_attributes_are_facts() -> None:
    found = described("mine:WithFacts")
    assert found == {"name": "mine:WithFacts", "ignores": ["clip"], "width": 0.2, "ranges": {"width": "> 0"}}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("THREE", "is no function or class, but of type int"),
        ("no_default", "the default of width must be a number"),
        ("no_context", "takes no LearnerContext"),
        ("a_fact", "no setting may be called ignores"),
        ("odd", "the default of width must be a number"),
    ],
)
def test_what_cannot_be_an_algorithm(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^algorithm=mine:{name}: {message}"):
        described(f"mine:{name}")
