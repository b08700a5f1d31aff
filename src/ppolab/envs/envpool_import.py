"""Import EnvPool without the families of environments that a run does not use."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from types import ModuleType

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids
from ppolab.runtime.fast_imports import stand_in

USUAL = ("envpool.mujoco.gym.registration", "envpool.classic_control.registration")
"""They register what EnvPool has of Gymnasium's own tasks."""


def register_family(env: EnvConfig) -> None:
    """Import EnvPool so that it knows `env.id`, if it has it. Do nothing where the run will not use EnvPool.

    All families together cost a second of processor time, import Matplotlib and change its environment variables; the
    usual ones a twelfth of that. So an empty module stands in for the one that registers all of them, which EnvPool
    imports first, and the real one follows if the id is none of the usual ones. Should a version of EnvPool be laid
    out otherwise, it is imported in full.
    """
    if env.backend == "gymnasium" or env.kwargs or env.wrappers or not envpool_ids.is_installed():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns about the precision of its own Box bounds
        if "envpool" not in sys.modules:
            _import_usual()
        envpool_ids.has(env.id)


def _import_usual() -> None:
    # where this fails, ids are missing and EVERYTHING is imported, or nothing of it can be imported here
    with stand_in(ModuleType(envpool_ids.EVERYTHING)), contextlib.suppress(Exception):
        for name in USUAL:
            importlib.import_module(name)
