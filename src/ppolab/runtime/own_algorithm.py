"""Describe an algorithm of the user, MODULE:NAME, as a file in conf/algorithm/ describes a shipped one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ppolab.config.algorithms import ABOUT
from ppolab.errors import ConfigError
from ppolab.runtime.user_code import named_object

EXAMPLE = "algorithm=my_package:spo"
KINDS = (bool, int, float, str, list, type(None))
"""What a setting may be."""


def own_algorithm(name: str) -> Callable[..., Any]:
    """Return the function or class that `name`, MODULE:NAME, stands for; the module is imported.

    Raises:
        ConfigError: there is none, or it cannot be called.
    """
    found = named_object(f"algorithm={name}", name, EXAMPLE)
    if not callable(found):
        kind = type(found).__name__
        raise ConfigError(f"algorithm={name}: is no function or class, but of type {kind}; see docs/algorithms.md")
    return found  # type: ignore[no-any-return]  # callable() leaves Any


def described(name: str) -> Mapping[str, Any]:
    """Return the name, the settings and the facts of an algorithm of the user.

    Its settings are the parameters that can only be given by keyword, each with its default. Its facts are attributes
    of the function or class, called as in a file of conf/algorithm/.

    Raises:
        ConfigError: there is no such algorithm, or a setting has no usable default.
    """
    found = own_algorithm(name)
    key = f"algorithm={name}"
    parameters = inspect.signature(found).parameters.values()
    if not any(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters):
        raise ConfigError(f"{key}: takes no LearnerContext; write def NAME(context, *, SETTING=DEFAULT)")
    settings = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    for setting, default in settings.items():
        if setting in ABOUT:
            raise ConfigError(f"{key}: no setting may be called {setting}; choose another name")
        if type(default) not in KINDS:
            raise ConfigError(f"{key}: the default of {setting} must be a number, a text, true, false, a list or None")
    facts = {fact: _plain(getattr(found, fact)) for fact in ABOUT if fact != "name" and hasattr(found, fact)}
    return {"name": name, "ignores": [], **settings, **facts}


def _plain(fact: Any) -> Any:
    """A fact as a file would hold it: a class has a tuple where a file has a list."""
    return list(fact) if isinstance(fact, tuple) else fact
