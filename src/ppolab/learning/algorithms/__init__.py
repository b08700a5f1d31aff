"""The algorithms, one file each: `make` in the module that `algorithm.name` names."""

from __future__ import annotations

import importlib

from ppolab.learning.interface import Algorithm, LearnerContext


def make_algorithm(context: LearnerContext) -> Algorithm:
    """Return the configured algorithm for `context`."""
    module = importlib.import_module(f"{__name__}.{context.config.algorithm['name']}")
    algorithm: Algorithm = module.make(context)
    return algorithm
