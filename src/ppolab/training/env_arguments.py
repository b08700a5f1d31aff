"""Keep the arguments of a run's environments, which a callback may change while it trains."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ppolab.config.schema import EnvConfig
from ppolab.errors import CallbackError, ConfigError
from ppolab.training.collector import Collector

PLAIN = (bool, int, float, str, type(None))


class EnvArguments:
    """The `env.kwargs` in force in training, and those that were asked for since.

    Attributes:
        in_force: with these the environments were made.
        asked: what to change to; None: nothing.
    """

    def __init__(self, env: EnvConfig) -> None:
        self.in_force: dict[str, Any] = copy.deepcopy(dict(env.kwargs))
        self.asked: dict[str, Any] | None = None
        self._env = env

    def ask(self, changes: Mapping[str, Any], collector: Collector) -> None:
        """Ask for environments with `changes` among their arguments.

        Raises:
            CallbackError: the environments cannot be made with them, or would have other spaces.
        """
        asked = {**(self.in_force if self.asked is None else self.asked), **copy.deepcopy(dict(changes))}
        call = f"change_env_kwargs({dict(changes)})"
        if not is_plain(asked):
            raise CallbackError(f"{call}: must hold numbers, texts, true or false, and lists or dictionaries of these")
        if asked != self.in_force:
            try:
                collector.check_kwargs(replace(self._env, kwargs=asked))
            except ConfigError as error:
                raise CallbackError(f"{call}: {error}") from error
        self.asked = asked


def is_plain(value: Any) -> bool:
    """Return whether a value may stand in a configuration, and hence in a checkpoint."""
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return type(value) in PLAIN
