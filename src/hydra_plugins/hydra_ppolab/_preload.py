"""What every run imports; a fork server imports this once, and each of its runs starts without importing anything.

None of these modules may start a thread while it is imported: threads do not survive a fork, but their locks do.
"""

import importlib

from ppolab.config import EnvConfig
from ppolab.envs.envpool_families import register_family
from ppolab.startup import lean_imports

PICTURES = ("matplotlib.backends.backend_agg", "matplotlib.figure")
RUNS = ("hydra_plugins.hydra_ppolab._launch", "ppolab.experiment", "ppolab.study.child")

with lean_imports():  # PyTorch's compiler comes with Lightning: here it is imported once for all runs that need it
    for name in RUNS:
        importlib.import_module(name)
for name in PICTURES:  # after the others, which would import much more if these were there
    importlib.import_module(name)
register_family(EnvConfig(id="CartPole-v1"))
