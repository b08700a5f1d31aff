"""Seeds that no two environments, processes or purposes share."""

from __future__ import annotations

import numpy as np

TRAINING, EVALUATION = 0, 1


def environment_seeds(seed: int, process: int, num_envs: int, purpose: int = TRAINING) -> list[int]:
    """One 31-bit seed per environment, drawn from the run's seed, the process's rank and the environment's index.

    `seed + index`, the usual choice, makes runs with neighbouring seeds share most of their environments.
    """
    sequences = (np.random.SeedSequence(seed, spawn_key=(purpose, process, index)) for index in range(num_envs))
    return [int(sequence.generate_state(1)[0]) & 0x7FFFFFFF for sequence in sequences]
