"""Every exception ppolab raises on purpose.

PpolabError            exit code 1
├── ConfigError        exit code 2: the user's input is wrong; the message names key, value, rule and fix
├── EnvError           an environment raised, or returned something it must not
│   └── StateNotReached    it cannot be brought to where a checkpoint had it
├── TrainingError      the optimization left the finite numbers
├── UserCodeError      code of the user's raised in the middle of a run
│   ├── CallbackError      a callback
│   ├── NetworkError       a network
│   ├── OptimizerError     an optimizer
│   └── ScheduleError      a schedule; or it returned what is no factor
├── ProcessError       another process of the run is gone
├── CheckpointError    a checkpoint cannot be written, or is not one of ours
├── ExportError        a policy cannot be exported, or the exported one acts otherwise
├── TrackingError      the tracking store cannot answer what was asked of it
├── SweepError         too many trials of a study failed
├── RerunError         exit code 3: a run that was made again has other metrics
└── InterruptedRun     exit code 130: SIGINT or SIGTERM, after everything was saved
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PpolabError(Exception):
    """Base of the family; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(PpolabError):
    """The user's input is wrong. The message is one line: key, value, rule, fix."""

    exit_code = 2


class EnvError(PpolabError):
    """An environment raised, or returned a non-finite or wrongly shaped value."""


class StateNotReached(EnvError):
    """An environment cannot be brought to where a checkpoint had it."""


class TrainingError(PpolabError):
    """A loss, a gradient or a parameter is no longer finite."""


class UserCodeError(PpolabError):
    """Code of the user's raised in the middle of a run; the exception is the cause."""


class CallbackError(UserCodeError):
    """A callback of the user raised; the exception is the cause."""


class NetworkError(UserCodeError):
    """A network of the user raised after it had passed its trial; the exception is the cause."""


class OptimizerError(UserCodeError):
    """An optimizer of the user raised; the exception is the cause."""


class ScheduleError(UserCodeError):
    """A schedule of the user raised, which then is the cause, or returned what is no factor."""


class ProcessError(PpolabError):
    """Another process of a run is gone, and this one cannot go on alone."""


class CheckpointError(PpolabError):
    """A checkpoint cannot be written or read, or was not written by ppolab."""


class ExportError(PpolabError):
    """A policy cannot be written in a format, or what was written acts otherwise than the policy."""


class TrackingError(PpolabError):
    """The tracking store does not hold what was asked for."""


class SweepError(PpolabError):
    """Too many trials of a study failed; the finished ones are kept."""


class RerunError(PpolabError):
    """A run that was made again has other metrics than it had."""

    exit_code = 3


class InterruptedRun(PpolabError):
    """The run was stopped by a signal; its state has been saved."""

    exit_code = 130


def spelled(value: object) -> str:
    """A value as it is typed on the command line."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest known name, or an empty string when none is close."""
    by_lower = {str(name).lower(): name for name in known}  # names in an environment's info may be numbers
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[matches[0]]}'?" if matches else ""
