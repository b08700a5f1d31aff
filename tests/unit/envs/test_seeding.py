"""The generators that a whole process shares."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ppolab.envs.seeding import (
    global_generator_states,
    private_generators,
    restore_global_generators,
    seed_global_generators,
)


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    with private_generators(0):
        yield


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1, dtype=torch.float64))


def test_seeds_and_streams_are_repeatable_and_all_different() -> None:
    found = []
    for seed in (0, 1, 2**31 - 1):
        for stream in (0, 1):
            seed_global_generators(seed, stream)
            found.append(drawn())
            seed_global_generators(seed, stream)
            assert drawn() == found[-1]
    assert all(len(set(column)) == 6 for column in zip(*found, strict=True))


def test_states_bring_the_generators_back() -> None:
    random.gauss()  # leaves a second number behind, which is part of the state
    np.random.standard_normal()
    states = global_generator_states()
    expected = drawn(), random.gauss(), np.random.standard_normal()
    restore_global_generators(states)
    assert (drawn(), random.gauss(), np.random.standard_normal()) == expected


def test_private_generators_leave_those_outside_alone() -> None:
    seed_global_generators(5)
    expected = [drawn(), drawn()]
    seed_global_generators(5)
    found = [drawn()]
    with private_generators(9):
        first = drawn()
    with private_generators(9):
        assert drawn() == first
    with private_generators(10):
        assert drawn() != first
    with pytest.raises(ValueError, match="inside"), private_generators(9):
        raise ValueError("inside")
    assert [*found, drawn()] == expected
