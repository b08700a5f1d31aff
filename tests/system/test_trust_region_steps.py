"""Every step of a training by TRPO keeps its promises."""

from __future__ import annotations

import pytest
from textbook import updates_on


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_every_step_of_trpo_keeps_its_bound_and_improves_the_surrogate(env_id: str) -> None:
    max_kl = 0.01
    results = updates_on(env_id, 30, algorithm="trpo", **{"algorithm.max_kl": max_kl})
    for stats, kl, before, after in results:
        assert kl <= max_kl * (1 + 1e-3)
        assert stats.kl == pytest.approx(kl, rel=1e-2, abs=1e-6)
        assert after > before or stats.extras["policy/step_fraction"] == 0
    moved = [stats.extras["policy/step_fraction"] > 0 for stats, *_ in results]
    assert sum(moved) >= 28
    assert sorted(kl for _, kl, *_ in results)[15] > max_kl / 4, "the bound is made use of"
