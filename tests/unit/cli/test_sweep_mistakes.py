"""Mistakes in a sweep that are found before it starts a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from in_process import call

from commands import assert_one_line
from ppolab.cli.commands import train_main

MISTAKES: dict[str, tuple[str, ...]] = {
    "empty space": ("n_trials=5", "search space is empty", "search=NAME"),
    "bounds the wrong way round": ("clip=interval(0.3,0.1)", "clip=interval(0.3,0.1)", "below the second"),
    "bound that no run takes": ("clip=interval(0.1,1.3)", "clip=interval(0.1,1.3)", "strictly between 0 and 1"),
    "interval for a group": ("env=interval(0,1)", "env=interval(0,1)", "list them"),
    "interval for a text": ("model.activation=interval(0,1)", "model.activation=interval(0,1)", "list them"),
    "fractions for a whole number": ("epochs=interval(1.5,3)", "epochs=interval(1.5,3)", "whole number"),
    "grid without points": ("clip=interval(0.1,0.3) sampler=grid", "sampler=grid", "qmc"),
    "no such sampler": ("clip=interval(0.1,0.3) sampler=tep", "sampler=tep", "'tpe'"),
    "no such option of a sampler": ("clip=interval(0.1,0.3) sampler=tpe sampler.seeed=1", "sampler=tpe", "seeed"),
    "no such pruner": ("clip=interval(0.1,0.3) pruner=medain", "pruner=medain", "'median'"),
    "one seed for Wilcoxon": ("clip=interval(0.1,0.3) pruner=wilcoxon", "pruner=wilcoxon", "seeds_per_trial=5"),
    "few seeds for Wilcoxon": (
        "clip=interval(0.1,0.3) pruner=wilcoxon seeds_per_trial=4",
        "seeds_per_trial=4",
        "seeds_per_trial=5 or more",
    ),
    "null in a choice": ("target_kl=choice(null,0.02)", "takes no null", "such as target_kl=null,0.02"),
    "no trials": ("clip=interval(0.1,0.3) n_trials=0", "n_trials=0", "1 or more"),
    "mistyped setting": ("clip=interval(0.1,0.3) n_trial=5", "n_trial", "'n_trials'"),
    "no such function": ("hydra.sweeper.condition=nowhere.f clip=0.1,0.2", "condition=nowhere.f", "module.function"),
    "enqueued outside": ("clip=interval(0.1,0.3) enqueue=[{clip:0.9}]", "enqueue: clip=0.9", "0.3"),
    "seed and seeds": ("seed=0,1 seeds_per_trial=2", "seeds_per_trial=2", "seed is searched"),
    "two samplers": ("clip=interval(0.1,0.3) sampler=tpe,random", "sampler", "a sweep for each"),
    "workers of a grid": ("clip=0.1,0.2 workers=-1", "workers=-1", "1 or more"),
    "this process": ("clip=interval(0.1,0.3) hydra/launcher=basic", "hydra/launcher=basic", "leave it out"),
    "job of a grid": ("clip=0.1,1.5", "clip=1.5", "strictly between 0 and 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_sweep_is_answered_in_one_line(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, *expected = MISTAKES[mistake]
    assert_one_line(call(train_main, tmp_path, capsys, "-m", *arguments.split()), *expected)
    assert not (tmp_path / "outputs" / "mlflow.db").exists()
