"""ppolab: train, sweep and compare Proximal Policy Optimization agents.

`ppolab.train`, `ppolab.load`, `ppolab.compose` and `ppolab.report` are the commands as functions. Importing ppolab
imports nothing else: each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ppolab.agents.agent import Agent
    from ppolab.agents.evaluation import EvalResult
    from ppolab.api.functions import compose, load, report, train
    from ppolab.config.schema import Config
    from ppolab.errors import ConfigError, InterruptedRun, PpolabError
    from ppolab.reports.make_report import Report
    from ppolab.training.result import RunResult

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Config",
    "ConfigError",
    "EvalResult",
    "InterruptedRun",
    "PpolabError",
    "Report",
    "RunResult",
    "compose",
    "load",
    "report",
    "train",
]

_HOMES = {
    "Agent": "ppolab.agents.agent",
    "Config": "ppolab.config.schema",
    "ConfigError": "ppolab.errors",
    "EvalResult": "ppolab.agents.evaluation",
    "InterruptedRun": "ppolab.errors",
    "PpolabError": "ppolab.errors",
    "Report": "ppolab.reports.make_report",
    "RunResult": "ppolab.training.result",
    "compose": "ppolab.api.functions",
    "load": "ppolab.api.functions",
    "report": "ppolab.api.functions",
    "train": "ppolab.api.functions",
}
"""Where each name of `__all__` comes from."""

if not TYPE_CHECKING:  # a type checker shall know only the names above

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'ppolab' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
