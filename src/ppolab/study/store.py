"""Say where a sweep is recorded."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE_SECONDS = 20.0
"""A sweep waits so long for the store; after that, its runs belong to no sweep there."""


@dataclass(frozen=True)
class Store:
    """Say where sweeps are recorded: the tracking store and the experiment in it."""

    uri: str
    experiment: str
