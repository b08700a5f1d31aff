"""Mistakes in a sweep that are found before it starts a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from in_process import call

from commands import assert_one_line
from ppolab.cli.commands import train_main

CLIP = "clip=interval(0.1,0.3)"
PBT = f"{CLIP} scheduler=pbt"

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
    "no such scheduler": (f"{CLIP} scheduler=pbtt", "scheduler=pbtt", "'pbt'"),
    "no such setting of a scheduler": (f"{PBT} scheduler.intervall=5000", "scheduler.intervall", "'interval'"),
    "one member": (f"{PBT} population=1", "population=1", "2 or more"),
    "a population without a scheduler": (f"{CLIP} population=8", "population=8", "add scheduler=pbt"),
    "an interval without a scheduler": (f"{CLIP} scheduler.interval=5000", "scheduler.interval", "add scheduler=pbt"),
    "an interval of all steps": (f"{PBT} scheduler.interval=2000000", "less than total_steps=1000000", "set it to"),
    "an interval below a batch": (f"{PBT} scheduler.interval=100", "scheduler.interval=100", "one batch", "= 2048"),
    "an interval of a fraction": (f"{PBT} scheduler.interval=5000.5", "scheduler.interval=5000.5", "a whole number"),
    "more than half that copy": (f"{PBT} scheduler.quantile=0.7", "scheduler.quantile=0.7", "at most 0.5"),
    "resampled more than always": (f"{PBT} scheduler.resample=2", "scheduler.resample=2", "between 0 and 1"),
    "too short a run for a population": (f"{PBT} total_steps=2048", "total_steps=2048", "compares members", "raise it"),
    "a population that is pruned": (f"{PBT} pruner=median", "pruner=median", "pruner=none"),
    "a population with a sampler": (f"{PBT} sampler=tpe", "sampler=tpe", "leave it out"),
    "a population with n_trials": (f"{PBT} n_trials=40", "n_trials=40", "set population"),
    "a population with seeds": (f"{PBT} seeds_per_trial=3", "seeds_per_trial=3", "leave it out"),
    "a population with two objectives": (
        f"{PBT} objective='eval/return,time/total' direction=maximize,minimize",
        "objective=eval/return,time/total",
        "name one",
    ),
    "a population whose runs are registered": (f"{PBT} logger.register=hopper", "logger.register=hopper", "export.py"),
    "a population with a condition": (
        f"{PBT} hydra.sweeper.condition=math.sqrt",
        "condition=math.sqrt",
        "leave it out",
    ),
    "more given settings than members": (
        f"{PBT} population=2 enqueue=[{{clip:0.1}},{{clip:0.2}},{{clip:0.3}}]",
        "enqueue: names 3",
        "population=2",
    ),
    "a size that cannot change in a run": (f"{PBT} num_envs=8,16", "num_envs", "another value", "optimizer.lr"),
    "a network that cannot change in a run": (
        f"{PBT} model.hidden_sizes=choice([32],[64])",
        "model.hidden_sizes",
        "model.hidden_sizes=VALUE",
    ),
    "an environment that cannot change in a run": (f"{PBT} env=hopper,ant", "env", "env=VALUE"),
    "the name of a run": (f"{CLIP} logger.run_name=mine", "logger.run_name=mine", "study_name="),
    "job of a grid": ("clip=0.1,1.5", "clip=1.5", "strictly between 0 and 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_sweep_is_answered_in_one_line(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, *expected = MISTAKES[mistake]
    assert_one_line(call(train_main, tmp_path, capsys, "-m", *arguments.split()), *expected)
    assert not (tmp_path / "outputs" / "mlflow.db").exists()
