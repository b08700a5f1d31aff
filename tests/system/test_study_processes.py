"""Trials that processes share, some of which are killed; and the pictures of a study."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState
from study_parts import SPACE, Instant, opened, score, settings, stored_trials

from ppolab.study.claims import Owner
from ppolab.study.run_study import StudyPlace, run_study
from ppolab.study.storage import JournalLock


def test_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    journal.touch()
    child = multiprocessing.get_context("fork").Process(target=_lock_and_die, args=(journal,))
    child.start()
    child.join()
    started = time.monotonic()
    lock = JournalLock(journal)
    assert lock.acquire()
    lock.release()
    assert time.monotonic() - started < 2


def _lock_and_die(journal: Path) -> None:
    JournalLock(journal).acquire()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_processes_together_run_exactly_as_many_trials(kind: str, tmp_path: Path) -> None:
    url = None if kind == "file" else f"sqlite:///{tmp_path}/study.db"
    opened(tmp_path, storage=url)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_take_all, args=(tmp_path, url)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    _, study, _ = opened(tmp_path, storage=url)
    assert [trial.number for trial in study.trials] == list(range(12))
    assert Counter(trial.state for trial in study.trials) == {TrialState.COMPLETE: 12}


def _take_all(folder: Path, url: str | None) -> None:
    trials, _, _ = opened(folder, storage=url)
    while (claim := trials.claim(12)) is not None:
        time.sleep(0.01)
        trials.complete(claim, [1.0], {})


def test_trial_of_a_dead_process_is_run_again_under_its_number(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_claim_and_die, args=(tmp_path,))
    child.start()
    child.join()
    trials, study, _ = opened(tmp_path)
    lost = study.trials[0]
    assert lost.state == TrialState.RUNNING
    claim = trials.claim(1)
    assert claim is not None
    assert (claim.number, claim.again, dict(claim.values)) == (0, True, lost.params)
    assert trials.claim(1) is None
    trials.complete(claim, [3.0], {})
    assert [trial.value for trial in study.trials] == [3.0]


def _claim_and_die(folder: Path) -> None:
    opened(folder)[0].claim(1)
    os.kill(os.getpid(), signal.SIGKILL)


def test_owner_that_has_ended_is_gone() -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    child.start()
    assert child.pid is not None
    owner = Owner(socket.gethostname(), child.pid, psutil.Process(child.pid).create_time())
    assert not owner.is_gone()
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert owner.is_gone(), "a zombie runs nothing"
    child.join()
    assert owner.is_gone()


def test_result_tells_how_to_go_on(tmp_path: Path) -> None:
    chosen = settings(fixed=("env=hopper",))
    result = run_study(chosen, SPACE, StudyPlace(None, tmp_path, None), Instant(score), lambda: False)
    assert result.counts["complete"] == 6
    assert result.best_values == [max(trial.value for trial in stored_trials(tmp_path))]
    assert f"ppolab-train env=hopper clip={result.best[0].params['clip']!r}" in result.summary
    assert {path.suffix for path in result.pictures} == {".png", ".html"}
    assert all(path.stat().st_size > 5000 for path in result.pictures)
