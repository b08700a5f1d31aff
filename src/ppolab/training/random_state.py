"""Save and restore the random generators that everybody may draw from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ppolab.envs.seeding import global_generator_states, restore_global_generators


def global_random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of Python's, NumPy's and PyTorch's global generators, and of the GPU's if `device` is one.

    Dropout draws from PyTorch's on `device`; environments may draw from any.
    """
    states = global_generator_states()
    return {
        **({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}),
        **states,
        "torch": torch.from_numpy(states["torch"]),
    }


def set_global_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Go on from what `global_random_states` gave, perhaps on another kind of device."""
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    restore_global_generators({**states, "torch": states["torch"].numpy()})


def stream_seed(seed: int, stream: int) -> int:
    """Return the seed of one of a run's own generators; different streams are independent."""
    return int(np.random.SeedSequence(seed, spawn_key=(1000, stream)).generate_state(1, np.uint64)[0] >> np.uint64(1))
