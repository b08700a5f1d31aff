"""Which seeds are trained at once, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import make_config

from ppolab.config.members import note_on_members, problem_of_members, trains_together

GPU = {"env.backend": "warp", "trainer.accelerator": "cpu"}
PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "frames": ({"env.frame_stack": 2}, "env.frame_stack"),
    "memory": ({"model.memory": "gru"}, "model.memory=gru"),
    "own network": ({"model.network": "sample_networks:Residual"}, "network of your own"),
    "dropout": ({"model.dropout": 0.1}, "model.dropout"),
    "algorithm": ({"algorithm": "trpo"}, "algorithm=trpo"),
    "optimizer": ({"optimizer": "sgd"}, "torch.optim.SGD"),
    "not fused": ({"optimizer.fused": False}, "torch.optim.Adam"),
    "callbacks": ({"callbacks": ["sample_callbacks:Counting"]}, "callbacks"),
    "precision": ({"trainer.precision": "bf16"}, "bf16"),
}


@pytest.mark.parametrize("name", ["ppo_clip", "ppo_penalty", "unclipped", "a2c"])
def test_seeds_of_worlds_are_trained_at_once(name: str) -> None:
    config = make_config("env=hopper", algorithm=name, **GPU)
    assert trains_together(config)
    worlds = 4 * config.num_envs
    assert note_on_members(config, 4, "none") == f"seeds         4 of a trial at once, as one batch of {worlds} worlds"
    assert note_on_members(config, 1, "none") is None


def test_seeds_of_other_backends_are_trained_one_after_another_and_nothing_is_said() -> None:
    config = make_config("env=hopper")
    assert not trains_together(config) and note_on_members(config, 4, "none") is None


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_cannot_be_trained_at_once_is_told(case: str) -> None:
    settings, told = PROBLEMS[case]
    config = make_config("env=hopper", **GPU, **settings)
    assert told in (problem_of_members(config) or "") and not trains_together(config)
    note = note_on_members(config, 4, "none")
    assert note is not None and note.startswith("seeds         one after another, since ") and told in note


def test_a_pruner_needs_seeds_one_after_another() -> None:
    note = note_on_members(make_config("env=hopper", **GPU), 5, "wilcoxon")
    assert note == "seeds         one after another, since pruner=wilcoxon looks at each finished seed"
