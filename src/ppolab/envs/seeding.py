"""Seeds that no two environments, processes or purposes share."""

from __future__ import annotations

import numpy as np

TRAINING, EVALUATION = 0, 1


def environment_seeds(seed: int, first: int, num_envs: int, purpose: int = TRAINING, generation: int = 0) -> list[int]:
    """One 31-bit seed per environment, drawn from the run's seed and the environment's index among those of all
    processes, of which `first` is this process's lowest. `generation`: environments may be made anew during a run.

    `seed + index`, the usual choice, makes runs with neighbouring seeds share most of their environments.
    """
    indices = range(first, first + num_envs)
    sequences = (np.random.SeedSequence(seed, spawn_key=(purpose, generation, index)) for index in indices)
    return [int(sequence.generate_state(1)[0]) & 0x7FFFFFFF for sequence in sequences]
