"""Seeds that no two environments, ranks or purposes share, and the generators that a whole process shares.

Gymnasium hands an environment a generator of its own. Many users' environments draw from those of `random`, NumPy or
PyTorch instead, which everything in a process shares. They are seeded per rank, per worker process, and per evaluation.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

TRAINING, EVALUATION = 0, 1


def environment_seeds(seed: int, first: int, num_envs: int, purpose: int = TRAINING, generation: int = 0) -> list[int]:
    """Return one 31-bit seed per environment.

    `first` is the index of this rank's first environment among those of all ranks. `generation` counts how often the
    environments of a run were made. `seed + index`, the usual choice, makes runs with neighbouring seeds share most of
    their environments.
    """
    indices = range(first, first + num_envs)
    sequences = (np.random.SeedSequence(seed, spawn_key=(purpose, generation, index)) for index in indices)
    return [int(sequence.generate_state(1)[0]) & 0x7FFFFFFF for sequence in sequences]


def seed_global_generators(seed: int, stream: int = 0) -> None:
    """Seed the generators of `random`, NumPy and, where it is loaded, PyTorch; each `stream` of a seed is another."""
    words = np.random.SeedSequence(seed, spawn_key=(2000, stream)).generate_state(12)
    random.seed(int.from_bytes(words[:4].tobytes(), "little"))
    np.random.seed(words[4:8])
    if torch := sys.modules.get("torch"):
        torch.manual_seed(int.from_bytes(words[8:10].tobytes(), "little") >> 1)


def global_generator_states() -> dict[str, Any]:
    """Return the states of the generators that `seed_global_generators` seeds, as plain values and arrays."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    torch = sys.modules.get("torch")
    return {
        "python": [version, np.array(numbers, dtype=np.int64), gauss],
        "numpy": [name, keys, *rest],
        **({"torch": torch.get_rng_state().numpy()} if torch else {}),
    }


def restore_global_generators(states: dict[str, Any]) -> None:
    """Set the generators to what `global_generator_states` returned."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch = sys.modules.get("torch")
    if torch and "torch" in states:
        torch.set_rng_state(torch.from_numpy(np.array(states["torch"])))


@contextmanager
def private_generators(seed: int) -> Iterator[None]:
    """Seed the global generators from `seed`, and set them back at the end: an evaluation must not touch training."""
    states = global_generator_states()
    seed_global_generators(seed)
    try:
        yield
    finally:
        restore_global_generators(states)
