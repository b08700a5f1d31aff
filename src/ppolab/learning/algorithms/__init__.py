"""The algorithms, one file each: `make` in the module that `algorithm.name` names; or the user's own, MODULE:NAME."""

from __future__ import annotations

import importlib

from ppolab.config.algorithms import ABOUT, is_own
from ppolab.errors import ConfigError
from ppolab.learning.interface import Algorithm, LearnerContext
from ppolab.runtime.own_algorithm import own_algorithm
from ppolab.runtime.user_code import what_was_raised

METHODS = ("update", "state", "load_state")


def make_algorithm(context: LearnerContext) -> Algorithm:
    """Return the configured algorithm for `context`.

    Raises:
        ConfigError: an algorithm of the user cannot be made, or is none.
    """
    name = context.config.algorithm["name"]
    if is_own(name):
        return _own(name, context)
    algorithm: Algorithm = importlib.import_module(f"{__name__}.{name}").make(context)
    return algorithm


def _own(name: str, context: LearnerContext) -> Algorithm:
    make = own_algorithm(name)
    settings = {key: value for key, value in context.config.algorithm.items() if key not in ABOUT}
    try:
        algorithm: Algorithm = make(context, **settings)
    except Exception as error:  # a user's code may raise anything
        raise ConfigError(f"algorithm={name}: making it raised {what_was_raised(error)}") from error
    missing = [method for method in METHODS if not callable(getattr(algorithm, method, None))]
    if missing:
        raise ConfigError(
            f"algorithm={name}: must return an object with {', '.join(METHODS)}, such as a Learner; "
            f"{type(algorithm).__name__} has no {missing[0]}"
        )
    return algorithm
