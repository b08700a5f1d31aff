"""Find the Lightning callbacks that `callbacks=[my_package:MyCallback]` names."""

from __future__ import annotations

import functools
import importlib
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl

from ppolab.errors import CallbackError, ConfigError, PpolabError, nearest

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
HOOKS = [name for name in vars(pl.Callback) if name.startswith("on_") or name in ("setup", "teardown")]


def user_callbacks(names: Sequence[str]) -> list[pl.Callback]:
    """Return the named callbacks, in order; a class is called without arguments.

    A hook that raises ends the run with a `CallbackError` that names the hook and the line.

    Args:
        names: each MODULE:NAME, of a class or an instance.

    Raises:
        ConfigError: there is no such module or name, or it is no Lightning callback.
    """
    return [_guarded(_found(name), f"callbacks=[{name}]") for name in names]


def _found(spelled: str) -> pl.Callback:
    key = f"callbacks=[{spelled}]"
    if not NAME.fullmatch(spelled):
        raise ConfigError(f"{key}: must be MODULE:NAME, such as callbacks=[my_package:MyCallback]")
    module_name, _, name = spelled.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{key}: the module '{error.name}' cannot be imported; install it or add its folder to PYTHONPATH"
        ) from error
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(f"{key}: importing {module_name} raised {_told(error)}; mend it, or leave it out") from error
    if not hasattr(module, name):
        raise ConfigError(f"{key}: the module {module_name} has no {name}{nearest(name, vars(module))}")
    found = getattr(module, name)
    try:
        callback = found() if isinstance(found, type) else found
    except Exception as error:
        raise ConfigError(
            f"{key}: {name}() raised {_told(error)}; a class is called without arguments; name an instance instead"
        ) from error
    if not isinstance(callback, pl.Callback):
        raise ConfigError(f"{key}: must be a pytorch_lightning.Callback, not {type(callback).__name__}")
    return callback


def _guarded(callback: pl.Callback, key: str) -> pl.Callback:
    for hook in HOOKS:
        setattr(callback, hook, _reported(getattr(callback, hook), f"{key}: {hook}"))
    return callback


def _reported(hook: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(hook)
    def call(*arguments: Any, **settings: Any) -> Any:
        try:
            return hook(*arguments, **settings)
        except PpolabError:
            raise
        except Exception as error:
            raise CallbackError(f"{name} raised {_told(error)}") from error

    return call


def _told(error: Exception) -> str:
    """The kind, the first line of the message, and where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {message} ({last.filename}, line {last.lineno})"
