"""Import PyTorch's compiler besides `_preload`, once for all runs of a sweep; it takes as long as all the rest."""

import importlib

from ppolab.runtime.fast_imports import COMPILER, lean_imports

with lean_imports():
    importlib.import_module(COMPILER)
