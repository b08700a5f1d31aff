"""Samplers and pruners with the real Optuna, and what a study refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from study_parts import CLIP, SPACE, Instant, opened, score, settings

from ppolab.errors import ConfigError
from ppolab.study.claims import Trials
from ppolab.study.run_study import StudyPlace, check_study, open_study, run_study
from ppolab.study.search_space import Choice, Dimension, Interval, SearchSpace
from ppolab.study.settings import SAMPLERS, Pruning, make_pruner, make_sampler
from ppolab.study.storage import open_storage


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_proposes_values_inside(name: str, tmp_path: Path) -> None:
    dimensions: dict[str, Dimension] = {"clip": Interval(0.1, 0.3, step=0.1), "epochs": Interval(1, 4, integer=True)}
    space = SearchSpace(dimensions)
    chosen = settings(sampler=name)
    storage = open_storage(None, "s", tmp_path)
    study = open_study(chosen, space, storage)
    trials = Trials(study, storage, space)
    for index in range(6):
        claim = trials.claim(6)
        assert claim is not None
        clip, epochs = claim.values["clip"], claim.values["epochs"]
        assert isinstance(clip, float)
        assert isinstance(epochs, int)
        assert 0.1 <= clip <= 0.3001
        assert 1 <= epochs <= 4
        trials.complete(claim, [float(index)], {})


def test_cmaes_varies_a_single_interval(tmp_path: Path) -> None:
    """Optuna 5 with cmaes 0.13 does; the values come closer to the best one, 0.2."""
    trials, study, _ = opened(tmp_path, sampler="cmaes")
    for _ in range(40):
        claim = trials.claim(40)
        assert claim is not None
        trials.complete(claim, [-abs(float(str(claim.values["clip"])) - 0.2)], {})
    distances = [-trial.value for trial in study.trials]
    assert sum(distances[-10:]) < 0.5 * sum(distances[:10])


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "random", "qmc"])
def test_nobody_draws_what_somebody_else_has_drawn(name: str, tmp_path: Path) -> None:
    """Two sweeps that start together, and one that goes on after another was killed."""
    dimensions: dict[str, Dimension] = {"clip": Interval(0.1, 0.3), "gamma": Interval(0.9, 0.99)}
    space, drawn = SearchSpace(dimensions), []
    for _ in range(3):
        storage = open_storage(None, "s", tmp_path)
        study = open_study(settings(sampler=name), space, storage)
        for _ in range(2):
            claim = Trials(study, storage, space).claim(99)
            assert claim is not None
            drawn.append(claim.values["clip"])
    assert len(set(drawn)) == 6, drawn


@pytest.mark.parametrize(
    ("changes", "dimensions", "told"),
    [
        ({"sampler": "tep"}, CLIP, "sampler=tep.*'tpe'"),
        ({"sampler": "cmaes"}, {"a": Choice(("x", "y")), **CLIP}, "sampler=cmaes: a is a choice"),
        ({"sampler": "grid"}, CLIP, "sampler=grid: clip=.*no finite number"),
        ({"sampler": "tpe", "sampler_options": {"n_startup": 3}}, CLIP, "sampler=tpe.*n_startup"),
    ],
)
def test_sampler_that_cannot(changes: dict[str, Any], dimensions: dict[str, Dimension], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_sampler(settings(**changes), SearchSpace(dimensions))


def test_pruners() -> None:
    assert isinstance(make_pruner(Pruning("median", 1, 5)), optuna.pruners.MedianPruner)
    with pytest.raises(ConfigError, match=r"pruner=median.*warmup"):
        make_pruner(Pruning("median", 1, 5, {"warmup": 3}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pruning": Pruning("medain", 1, 5)}, "pruner=medain.*'median'"),
        ({"pruning": Pruning("wilcoxon", 1, 5)}, "seeds_per_trial=5"),
        ({"pruning": Pruning("wilcoxon", 1, 2), "seeds_per_trial": 2}, "after 4 seeds at the earliest.*=5 or more"),
        ({"pruning": Pruning("wilcoxon", 1, 4), "seeds_per_trial": 4}, "after 4 seeds at the earliest.*=5 or more"),
        ({"pruning": Pruning("hyperband", 1, 2), "seeds_per_trial": 2}, "after 2 seeds at the earliest.*=3 or more"),
        ({"pruning": Pruning("median", 900, 900)}, "none before its last step; set eval_interval.*eval_interval=90"),
        (
            {"pruning": Pruning("median", 1, 5), "objectives": ("a", "b"), "directions": ("maximize",) * 2},
            "several objectives",
        ),
        ({"n_trials": 0}, "n_trials=0: must be 1 or more"),
        ({"directions": ("up",)}, "direction=up"),
        ({"directions": ("maximize", "minimize")}, "needs one for each"),
        ({"enqueue": ({"clpi": 0.1},)}, "enqueue: clpi"),
        ({"enqueue": ({"clip": 0.9},)}, "clip=0.9 is not between"),
        ({"timeout": -1.0}, "timeout=-1: must be greater than 0"),
        ({"name": "a/b"}, "study_name=a/b"),
        ({"sampler": "tpe", "sampler_options": {"n_startup_trials": "foo"}}, "sampler=tpe with.*foo"),
        ({"pruning": Pruning("none", 1, 5, {"n_startup_trials": 1})}, "pruner.n_startup_trials: no pruner is chosen"),
        ({"pruning": Pruning("median", 1, 5, {"n_warmup_steps": "x"})}, "pruner=median with"),
    ],
)
def test_study_that_cannot_be(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        run_study(settings(**changes), SPACE, StudyPlace(None, tmp_path, None), Instant(score), lambda: False)


def test_trying_out_a_pruner_tells_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    check_study(settings(pruning=Pruning("median", 1, 5, {"n_startup_trials": 1})), SPACE)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    assert capfd.readouterr().err == ""
