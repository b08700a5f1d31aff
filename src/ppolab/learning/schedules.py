"""Let a setting follow the progress of a run, by a shipped schedule or the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppolab.config.rules import SCHEDULES, is_a
from ppolab.config.schema import Config
from ppolab.core.schedules import constant, linear
from ppolab.errors import ConfigError, ScheduleError, spelled
from ppolab.runtime.user_code import named_object, what_was_raised

LR_SCHEDULE, ENTROPY_SCHEDULE, CLIP_SCHEDULE = "lr_schedule", "entropy_schedule", "algorithm.clip_schedule"
SHIPPED: dict[str, Callable[[float], float]] = dict(zip(SCHEDULES, (linear, constant), strict=True))
TRIED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The progress at which a schedule is tried before a run begins."""


@dataclass(frozen=True)
class Schedule:
    """A factor over the progress of a run.

    Attributes:
        setting: KEY=VALUE, as it was typed.
        function: (progress in [0, 1]) -> factor.
        clip: what is multiplied, where the product must stay below 1; None: there is no such bound.
    """

    setting: str
    function: Callable[[float], Any]
    clip: float | None = None

    def factor(self, progress: float) -> float:
        """Return the factor at `progress`, the share of environment steps already taken.

        Raises:
            ScheduleError: the function raised, or returned what is no factor.
        """
        progress = min(1.0, progress)
        factor: Any
        try:
            factor = self.function(progress)
        except Exception as error:  # a user's function may raise anything
            raise ScheduleError(f"{self.setting}: raised {what_was_raised(error)} at progress={progress:g}") from error
        below = math.inf if self.clip is None else 1.0 / self.clip
        if not (is_a(factor, float) or isinstance(factor, np.floating)) or not 0.0 <= factor < below:
            rule = "0 or more" if self.clip is None else f"from 0 to below {below:g}, since clip={self.clip:g}"
            told = f"{factor:g}" if isinstance(factor, float) else spelled(factor)
            raise ScheduleError(f"{self.setting}: returned {told} at progress={progress:g}; the factor must be {rule}")
        return float(factor)


def rate_schedule(config: Config) -> Schedule:
    """Return the factor of `optimizer.lr`: what `lr_schedule` names, else what `anneal_lr` stands for.

    Raises:
        ConfigError: there is no such function.
    """
    return _schedule(LR_SCHEDULE, config.rate_schedule)


def entropy_schedule(config: Config) -> Schedule | None:
    """Return the factor of `entropy_coef`; None: there is none.

    Raises:
        ConfigError: there is no such function.
    """
    return _schedule(ENTROPY_SCHEDULE, config.entropy_schedule) if config.entropy_schedule else None


def clip_schedule(config: Config) -> Schedule | None:
    """Return the factor of `clip`: what `algorithm.clip_schedule` names, else linear with `anneal_clip`; None: neither.

    Raises:
        ConfigError: there is no such function.
    """
    name = config.algorithm.get("clip_schedule") or ("linear" if config.algorithm.get("anneal_clip") else None)
    return _schedule(CLIP_SCHEDULE, name, config.clip) if name else None


def check_schedules(config: Config) -> None:
    """Try the schedules of a run before it begins.

    Raises:
        ConfigError: there is no such function, it raised, or it returned what is no factor.
    """
    for schedule in (rate_schedule(config), entropy_schedule(config), clip_schedule(config)):
        for progress in TRIED if schedule else ():
            assert schedule is not None
            try:
                schedule.factor(progress)
            except ScheduleError as error:
                raise ConfigError(str(error)) from error.__cause__


def _schedule(key: str, name: str, clip: float | None = None) -> Schedule:
    setting = f"{key}={name}"
    if name in SHIPPED:
        return Schedule(setting, SHIPPED[name], clip)
    found = named_object(setting, name, f"{key}=my_package:my_schedule")
    if isinstance(found, type) or not callable(found):
        kind = "a class" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise ConfigError(
            f"{setting}: must be a function of the progress, from 0 to 1, that returns a factor, and is {kind}"
        )
    return Schedule(setting, found, clip)
