"""Import, after `_preload`, what it leaves out of PyTorch and MLflow: for runs with code that is not ppolab's."""

from ppolab.runtime.deferred_imports import load_deferred

load_deferred()
