"""What a study's page in MLflow says of it, and which kind of run a trial's run is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from study_parts import CLIP, settings

from ppolab.study.run_study import open_study
from ppolab.study.search_space import Choice, Interval, SearchSpace
from ppolab.study.storage import open_storage
from ppolab.study.study_note import study_note
from ppolab.study.trial_process import TrialReference


def test_a_study_has_its_best_trial_and_the_command_that_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ppolab-train"])
    space = SearchSpace({"clip": Interval(0.1, 0.4), "+env.kwargs.size": Choice(("1", "2"))})
    of_study = settings(fixed=("env=cartpole",))
    study = open_study(of_study, space, open_storage(None, "s", tmp_path))
    assert study_note(study, of_study, space).startswith("Study **s**: none has ended yet.\n\nPictures are")
    for value in (1.0, 3.0, 2.0):
        study.tell(study.ask(space.distributions()), value)
    best = study.best_trial
    assert study_note(study, of_study, space).splitlines() == [
        "Study **s**: 3 complete. Best: **eval/return 3** (trial 1).",
        "",
        f"Train it: `ppolab-train env=cartpole clip={best.params['clip']!r} "
        f"+env.kwargs.size={best.params['+env.kwargs.size']}`",
        "",
        "Pictures are among the artifacts, in `plots`. The filter `tags.study = 's'` lists the trials.",
        "",
        "Searched to maximize eval/return, by random:",
        "",
        "- `env.kwargs.size`: 1, 2",
        "- `clip`: 0.1 to 0.4",
    ]


def test_an_interval_is_told_in_words() -> None:
    assert str(Interval(1e-4, 1e-2, log=True)) == "0.0001 to 0.01 (log)"
    assert str(Interval(8, 64, integer=True, step=8)) == "8 to 64 (step 8)"
    assert SearchSpace(CLIP, "mine.width").in_words()["condition"] == "mine.width"


@pytest.mark.parametrize(("name", "kind"), [("trial-0003", "trial"), ("trial-0003-seed-1", "seed")])
def test_a_run_is_a_whole_trial_or_one_seed_of_it(name: str, kind: str) -> None:
    assert TrialReference(None, "f", "s", 3, 3, None, None, name, "").kind == kind
