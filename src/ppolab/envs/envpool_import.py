"""EnvPool without the families of environments that a run does not use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType

from ppolab.config import EnvConfig
from ppolab.envs import envpool_backend

USUAL = ("envpool.mujoco.gym.registration", "envpool.classic_control.registration")
"""They register what EnvPool has of Gymnasium's own tasks."""
EVERYTHING = "envpool.entry"
"""The module that registers all families. EnvPool imports it first of all."""


def register_family(env: EnvConfig) -> None:
    """Import EnvPool so that it knows `env.id`, if it has it; does nothing where EnvPool will not be asked.

    All families together cost a second of processor time, import Matplotlib and change its environment variables; the
    usual ones a twelfth of that. So an empty module stands in for `EVERYTHING` while EnvPool is imported, and the real
    one follows if the id is none of theirs. Should a version of EnvPool be laid out otherwise, it is imported in full.
    """
    if env.backend == "gymnasium" or env.kwargs or not envpool_backend.is_installed():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns about the precision of its own Box bounds
        if "envpool" not in sys.modules:
            _import_usual()
        import envpool

        elsewhere = ":" not in env.id and env.id not in envpool.list_all_envs()  # a colon names a user's own module
        if elsewhere and importlib.util.find_spec(EVERYTHING):
            importlib.import_module(EVERYTHING)


def _import_usual() -> None:
    sys.modules[EVERYTHING] = ModuleType(EVERYTHING)
    try:
        for name in USUAL:
            importlib.import_module(name)
    except ImportError:
        pass  # then its ids are missing, and EVERYTHING is imported
    finally:
        del sys.modules[EVERYTHING]
