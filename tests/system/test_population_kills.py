"""Populations killed at twenty random moments: no member is lost or there twice, and the lineage stays the same.

A reference that nobody kills says what the lineage is.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from populations import GENERATIONS, MEMBERS, POPULATION, segments
from studies import states, trials, workers_of

from commands import Answer, run_folders, start_training, train

STUDY = (*POPULATION, "logger=none", "progress=off")
PLACES = {(generation, member) for generation in range(GENERATIONS) for member in range(MEMBERS)}
KILLS = 20
PATIENCE = 900.0
Lineage = Mapping[tuple[int, int], Mapping[str, Any]]


@pytest.mark.slow
def test_a_population_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    """Each population is killed, and its command typed again, until it is complete; then another begins."""
    reference, unharmed = _unharmed(tmp_path)
    draw, kills, populations = random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / f"population-{populations}"
        folder.mkdir()
        kills += _killed_until_complete(folder, draw, 0.4 * reference.seconds)
        assert segments(folder) == unharmed
        ended = [Path(name) for trial in trials(folder) for name in trial.user_attrs["folders"]]
        assert len(set(ended)) == len(ended) == len(PLACES)
        assert set(ended) <= set(run_folders(folder))
        populations += 1
    print(f"{kills} kills of {populations} populations")


def _unharmed(folder: Path) -> tuple[Answer, Lineage]:
    """The population that nobody kills."""
    answer = train(folder, *STUDY, timeout=PATIENCE)
    assert answer.code == 0, answer.err
    found = segments(folder)
    assert found.keys() == PLACES
    assert any(segment["copied_from"] is not None for segment in found.values())
    return answer, found


def _killed_until_complete(folder: Path, draw: random.Random, longest: float) -> int:
    """Kill workers and whole sweeps in turn, each after at most `longest` seconds; return how many were killed."""
    kills, finished = 0, dict[tuple[int, int], Mapping[str, Any]]()
    while True:
        process = start_training(folder, *STUDY)
        try:
            killed_worker = _left_alone(process, draw.uniform(0.5, longest)) and _kill_a_worker(process, draw)
            kills += killed_worker
            going_on = _left_alone(process, draw.uniform(0.0, longest))
        finally:
            process.kill()
            _, errors = process.communicate(timeout=PATIENCE)
        kills += going_on
        now = segments(folder) if states(folder) else {}
        assert {place: now[place] for place in finished} == finished, "what had ended is as it was"
        finished = {place: segment for place, segment in now.items() if segment["state"] == "COMPLETE"}
        if not going_on:
            assert process.returncode == 0, errors
            return kills


def _left_alone(process: subprocess.Popen[str], seconds: float) -> bool:
    """Wait for so long, or until the process has ended; return whether it goes on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    return process.poll() is None


def _kill_a_worker(process: subprocess.Popen[str], draw: random.Random) -> bool:
    """Kill one of the processes that train, if there is one; the sweep must run its segment again by itself."""
    workers = workers_of(process)
    if not workers:
        return False
    os.kill(draw.choice(workers), signal.SIGKILL)
    return True
