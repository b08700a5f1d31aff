"""Describe search spaces, and write the values of a trial as settings."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from ppolab.errors import ConfigError

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Choice:
    """Take one of several values, each written as after `key=` on the command line."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.values)


@dataclass(frozen=True)
class Interval:
    """Take a number between two bounds, both included; `log`: by its logarithm; `step`: on a raster from `low`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    step: float | None = None

    def __str__(self) -> str:
        further = [*(["log"] if self.log else []), *([f"step {self.step:g}"] if self.step else [])]
        return f"{self.low:g} to {self.high:g}" + (f" ({', '.join(further)})" if further else "")


Dimension = Choice | Interval
Condition = Callable[[Trial, Mapping[str, Scalar]], Mapping[str, Scalar] | None]
"""(trial, values so far) -> further values: a space whose parts depend on each other, in Python."""


@dataclass(frozen=True)
class SearchSpace:
    """List what is varied, and name a function for settings that depend on the rest.

    Attributes:
        dimensions: by the key that each one sets.
        condition: name of a function, `module.function`, called after the dimensions have their values; or None.
    """

    dimensions: Mapping[str, Dimension]
    condition: str | None = None

    def check(self) -> None:
        """Raise ConfigError for what cannot be searched."""
        if not self.dimensions and self.condition is None:
            raise ConfigError(
                "search: the search space is empty; vary a setting, such as clip='interval(0.05,0.3)', or name a space "
                "with search=NAME"
            )
        for key, dimension in self.dimensions.items():
            _check_dimension(key, dimension)
        if self.condition is not None:
            condition_function(self.condition)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the dimensions by key, as Optuna's samplers take them."""
        return {key: distribution(dimension) for key, dimension in self.dimensions.items()}

    def described(self) -> dict[str, str]:
        """Return a text per key; two spaces that differ have different texts."""
        texts = {key: repr(dimension) for key, dimension in sorted(self.dimensions.items())}
        return texts | ({"condition": self.condition} if self.condition else {})

    def in_words(self) -> dict[str, str]:
        """Return a text per key for people."""
        texts = {key.lstrip("+"): str(dimension) for key, dimension in sorted(self.dimensions.items())}
        return texts | ({"condition": self.condition} if self.condition else {})

    def suggest(self, trial: Trial) -> dict[str, Scalar]:
        """Return values for a trial, by key; those of the condition come last."""
        values: dict[str, Scalar] = {
            key: trial._suggest(key, item)  # the public suggest_* methods are this, one per type
            for key, item in self.distributions().items()
        }
        if self.condition is not None:
            further = condition_function(self.condition)(trial, values)
            if not isinstance(further, Mapping | None):
                raise TypeError(f"{self.condition} must return settings by key, or None, not {further!r}")
            values |= further or {}
        return values


def _check_dimension(key: str, dimension: Dimension) -> None:
    if isinstance(dimension, Choice):
        if not dimension.values:
            raise ConfigError(f"{key}: no choice is left; name at least one value")
        return
    if not dimension.low < dimension.high:
        raise ConfigError(
            f"{key}=interval({dimension.low:g},{dimension.high:g}): the first bound must be below the second"
        )
    if dimension.log and dimension.low <= 0:
        raise ConfigError(
            f"{key}=tag(log, interval({dimension.low:g},{dimension.high:g})): a logarithm needs a first bound above 0"
        )


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return a dimension as Optuna has it."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.integer:
        step = 1 if dimension.step is None else int(dimension.step)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def condition_function(name: str) -> Condition:
    """Return the function that `module.function` names, looked up where Python finds modules.

    Raises:
        ConfigError: there is none.
    """
    module, _, attribute = name.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"hydra.sweeper.condition={name}: no such function ({error}); name it as module.function, in a module that "
            "lies in this folder or is installed"
        ) from error
    if not callable(function):
        raise ConfigError(f"hydra.sweeper.condition={name}: is not a function")
    return function  # type: ignore[no-any-return]


def overrides(values: Mapping[str, Scalar]) -> list[str]:
    """Return a trial's values as `key=value`; choices are texts already, numbers keep every digit."""
    return [f"{key}={_text(value)}" for key, value in values.items()]


def _text(value: Scalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def grid_size(space: SearchSpace) -> int:
    """Return how many combinations `grid` has; raise what it raises."""
    return math.prod(len(points) for points in grid(space).values())


def grid(space: SearchSpace) -> dict[str, Sequence[Scalar]]:
    """Return every value of every dimension, for the grid sampler.

    Raises:
        ConfigError: a dimension has infinitely many.
    """
    points: dict[str, Sequence[Scalar]] = {}
    for key, dimension in space.dimensions.items():
        if isinstance(dimension, Choice):
            points[key] = dimension.values
        elif dimension.integer:
            points[key] = list(range(int(dimension.low), int(dimension.high) + 1, int(dimension.step or 1)))
        elif dimension.step is not None:
            low, high, step = (Decimal(str(value)) for value in (dimension.low, dimension.high, dimension.step))
            points[key] = [float(low + index * step) for index in range(int((high - low) / step) + 1)]
        else:
            raise ConfigError(
                f"sampler=grid: {key}=interval({dimension.low:g},{dimension.high:g}) has no finite number of values; "
                f"list them, such as {key}={dimension.low:g},{dimension.high:g}, or use sampler=qmc"
            )
    return points
