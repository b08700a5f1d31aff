"""The algorithms, one file each: `make` in the module that `algorithm.name` names."""

from __future__ import annotations

import importlib

from ppolab.update import Algorithm, Parts


def make_algorithm(parts: Parts) -> Algorithm:
    """The configured algorithm for `parts`."""
    module = importlib.import_module(f"{__name__}.{parts.config.algorithm['name']}")
    algorithm: Algorithm = module.make(parts)
    return algorithm
