"""What every run imports; a fork server imports this once, and each of its runs starts without importing anything.

None of these modules may start a thread while it is imported: threads do not survive a fork, but their locks do.
"""

import importlib

from ppolab.config import EnvConfig
from ppolab.envs.envpool_families import register_family

MODULES = (
    "hydra_plugins.hydra_ppolab._launch", "matplotlib.backends.backend_agg", "matplotlib.figure", "ppolab.experiment",
    "ppolab.study.child",
)  # fmt: skip

for name in MODULES:
    importlib.import_module(name)
register_family(EnvConfig(id="CartPole-v1"))
