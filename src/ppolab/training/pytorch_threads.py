"""Say how many threads PyTorch uses, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ppolab.config.schema import Config
from ppolab.runtime.cores import usable_cores


def rollout_threads(config: Config) -> int:
    """Return how many threads answer observations: by default one, since the other cores simulate."""
    return config.trainer.threads or 1


def update_threads(config: Config, *, images: bool) -> int:
    """Return how many threads compute an update in PyTorch.

    By default convolutions use all cores, since nothing simulates meanwhile. Small networks lose by more than one.
    """
    return config.trainer.threads or (usable_cores() if images else 1)


@contextmanager
def pytorch_threads(count: int) -> Iterator[None]:
    """Use `count` threads of PyTorch in a block, then as many as before."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)
