"""Find the Lightning callbacks that `callbacks=[my_package:MyCallback]` names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from ppolab.errors import CallbackError, ConfigError, PpolabError
from ppolab.runtime.user_code import named_object, what_was_raised

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


def with_states(state: dict[str, Any], users: Sequence[pl.Callback]) -> dict[str, Any]:
    """Return the module's state of a checkpoint with those of the user's callbacks."""
    return {**state, "callbacks": states_of(users)} if users else state


def states_of(callbacks: Sequence[pl.Callback]) -> dict[str, Any]:
    """Return what the callbacks' `state_dict` give, by `state_key`, without empty ones.

    Raises:
        CallbackError: one raised, or gave something that a checkpoint cannot hold.
    """
    states = {}
    for callback in callbacks:
        key = f"callbacks: {type(callback).__name__}.state_dict"
        state = _reported(callback.state_dict, key)()
        if not _is_plain(state):
            raise CallbackError(f"{key}: must hold numbers, texts, arrays, tensors, and lists or dictionaries of these")
        if state:
            states[callback.state_key] = state
    return states


def load_states(callbacks: Sequence[pl.Callback], states: Mapping[str, Any]) -> None:
    """Let callbacks go on from what `states_of` returned; one without a state begins anew."""
    for callback in callbacks:
        if callback.state_key in states:
            key = f"callbacks: {type(callback).__name__}.load_state_dict"
            _reported(callback.load_state_dict, key)(states[callback.state_key])


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str, np.ndarray, torch.Tensor)


def _found(spelled: str) -> pl.Callback:
    key = f"callbacks=[{spelled}]"
    found = named_object(key, spelled, "callbacks=[my_package:MyCallback]")
    name = spelled.rpartition(":")[2]
    try:
        callback = found() if isinstance(found, type) else found
    except Exception as error:
        raise ConfigError(
            f"{key}: {name}() raised {what_was_raised(error)}; a class is called without arguments; name an instance "
            "instead"
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
            raise CallbackError(f"{name} raised {what_was_raised(error)}") from error

    return call
