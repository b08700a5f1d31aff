"""Sweeps killed at random moments, twenty times: nothing finished is lost or run twice, nothing stays stuck."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState
from studies import states, trials, workers_of

from commands import TINY, start_training, train

N_TRIALS = 6
STUDY = (
    "-m", "env=cartpole", "clip=interval(0.05,0.3)", "study_name=s", "workers=2", "sampler=random", *TINY,
    "total_steps=1024", "eval_interval=256", "pruner=median", "logger=none", f"n_trials={N_TRIALS}",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(20))
def test_a_sweep_killed_at_a_random_moment(moment: int, tmp_path: Path) -> None:
    """Even moments kill the whole sweep, odd ones a worker; the moment is anywhere in the life of a sweep."""
    draw = random.Random(moment)
    process = start_training(tmp_path, *STUDY)
    time.sleep(draw.uniform(0.5, 14.0))
    workers = workers_of(process)
    if moment % 2 == 0 or not workers:
        process.kill()
    else:
        os.kill(draw.choice(workers), signal.SIGKILL)
    process.communicate(timeout=120)
    before = {trial.number: trial for trial in trials(tmp_path)} if states(tmp_path) else {}
    finished = {number: trial.values for number, trial in before.items() if trial.state.is_finished()}
    answer = train(tmp_path, *STUDY)
    assert answer.code == 0, answer.err
    after = trials(tmp_path)
    assert [trial.number for trial in after] == list(range(N_TRIALS))
    assert all(trial.state.is_finished() for trial in after)
    assert sum(trial.state == TrialState.FAIL for trial in after) <= moment % 2
    assert {number: after[number].values for number in finished} == finished
    assert all(after[number].params == trial.params for number, trial in before.items() if trial.params)
    folders = [folder for trial in after for folder in trial.user_attrs["folders"]]
    assert len(set(folders)) == len(folders) == N_TRIALS
