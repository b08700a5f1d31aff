"""What every run imports; a fork server imports this once, and each of its runs starts without importing anything.

None of these modules may start a thread while it is imported: threads do not survive a fork, but their locks do.
"""

import matplotlib.backends.backend_agg
import matplotlib.figure

import hydra_plugins.hydra_ppolab._launch
import ppolab.experiment
import ppolab.gradient
import ppolab.native
import ppolab.study.child  # noqa: F401
from ppolab.config import EnvConfig
from ppolab.envs.envpool_families import register_family
from ppolab.tracking.store import import_mlflow

register_family(EnvConfig(id="CartPole-v1"))
import_mlflow()
