"""Populations as the tests look at them: each segment with its settings, its score and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from studies import trials

from commands import TINY
from ppolab.study.population_trials import segment_of

MEMBERS, GENERATIONS = 4, 4
POPULATION = (
    "-m", "scheduler=pbt", f"population={MEMBERS}", "scheduler.interval=128", "env=cartpole", "clip=interval(0.05,0.3)",
    "optimizer.lr=tag(log, interval(1e-4,1e-2))", "epochs=choice(2,4)", "study_name=s", "workers=2", *TINY,
    "total_steps=512",
)  # fmt: skip
"""Sixteen segments of 128 steps."""


def segments(folder: Path, name: str = "s") -> Mapping[tuple[int, int], Mapping[str, Any]]:
    """What `lineage_of` tells of the population in `folder`."""
    return lineage_of(trials(folder, name))


def lineage_of(stored: Sequence[FrozenTrial]) -> Mapping[tuple[int, int], Mapping[str, Any]]:
    """By generation and member: what is told of a segment that must not depend on when it ran, and where."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    places = {trial.number: segment_of(trial) for trial in stored}
    for trial in stored:
        segment = places[trial.number]
        parent = None if segment.parent is None else places[segment.parent]
        place = segment.generation, segment.member
        assert place not in found, f"member {segment.member} has generation {segment.generation} twice"
        found[place] = {
            "settings": trial.params,
            "state": trial.state.name,
            "score": trial.values,
            "from": parent and (parent.generation, parent.member),
            "copied_from": segment.copied_from,
        }
    return found
