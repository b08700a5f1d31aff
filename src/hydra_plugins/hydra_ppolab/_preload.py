"""Import what every run needs; a fork server imports this once, and its runs start without importing anything.

None of these modules may start a thread while it is imported: threads do not survive a fork, but their locks do.
"""

import importlib

from ppolab.envs.envpool_import import import_usual
from ppolab.runtime.fast_imports import import_lightning, lean_imports

PICTURES = ("matplotlib.backends.backend_agg", "matplotlib.figure")
RUNS = (
    "ppolab.cli.commands", "hydra_plugins.hydra_ppolab._process_jobs", "ppolab.training.run",
    "ppolab.study.trial_process", "ppolab.learning.algorithms.ppo_clip", "hydra._internal.logging_config",
    "torch._subclasses",
)  # fmt: skip

with lean_imports():
    import_lightning()
    for name in RUNS:
        importlib.import_module(name)
for name in PICTURES:  # after the others, which would import much more if these were there
    importlib.import_module(name)
import_usual()
