"""Run a study through any other launcher of Hydra's, such as Ray's or submitit's."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from omegaconf import OmegaConf

from hydra_plugins.hydra_ppolab._study_jobs import StudyJobs, outcome_of
from ppolab.config.quoting import quoted
from ppolab.errors import ConfigError, InterruptedRun
from ppolab.records.tracking import Tracker, TrackingRelay, unsent_runs
from ppolab.runtime.cores import CORES, usable_cores
from ppolab.study.settings import StudySettings
from ppolab.study.store import PATIENCE_SECONDS
from ppolab.study.sweep_loop import Job, Outcome
from ppolab.training.trial import TRIAL

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

    from hydra_plugins.hydra_ppolab._context import Multirun

LAST_SECONDS = 10.0
"""Runs that were asked to end may take so long; some launchers leave no way to ask."""


class LauncherRunner:
    """Run each job in a launch of its own, for which a thread waits: a launch returns when all its jobs have ended."""

    ends_lost_runs = False

    def __init__(self, multirun: Multirun, settings: StudySettings, storage: str | None, studies: Path) -> None:
        if isinstance(multirun.launcher, BasicLauncher):
            raise ConfigError("hydra/launcher=basic: runs jobs in the sweep's own process; leave it out for processes")
        prepare(multirun.launcher)
        logging.getLogger("hydra_plugins").setLevel(logging.WARNING)  # each trial is told of when it ends
        self._launcher = multirun.launcher
        self._jobs = StudyJobs(settings, storage, studies)
        self.capacity = settings.workers
        self._cores = _cores_of_a_job(multirun.launcher, settings.workers)
        self._under_way: dict[int, tuple[Job, Path]] = {}
        self._began: dict[int, float] = {}
        self._started = 0
        self._relay = TrackingRelay()
        self._ended: queue.SimpleQueue[tuple[int, Any, str | None]] = queue.SimpleQueue()

    def start(self, job: Job) -> None:
        overrides, folder, reference = self._jobs.prepared(job, job.parent.wait_for_id(PATIENCE_SECONDS))
        place = [f"hydra.sweep.dir={quoted(str(folder.parent))}", f"hydra.sweep.subdir={quoted(folder.name)}"]
        environment = [with_variable(TRIAL, reference), with_variable(CORES, str(self._cores))]
        key, self._started = self._started, self._started + 1
        self._under_way[key] = job, folder
        self._began[key] = time.monotonic()
        threading.Thread(
            target=self._launch, args=(key, [*overrides, *place, *environment]), name=folder.name, daemon=True
        ).start()

    def start_together(self, _jobs: Sequence[Job]) -> bool:
        return False  # a launcher starts single runs

    def _launch(self, key: int, overrides: Sequence[str]) -> None:
        try:
            (result,) = self._launcher.launch([overrides], initial_job_idx=key)
            self._ended.put((key, result.return_value, None))
        except Exception as error:  # whatever the launcher, its cluster or the job raises fails this trial only
            self._ended.put((key, None, f"{type(error).__name__}: {error}"))

    def wait(self, seconds: float) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        try:
            ended = self._ended.get(timeout=seconds)
            while True:
                key, result, error = ended
                seconds = time.monotonic() - self._began.pop(key)
                died = error is not None
                outcomes.append(outcome_of(*self._under_way.pop(key), result, error, seconds, died=died))
                ended = self._ended.get_nowait()
        except queue.Empty:
            return outcomes

    def under_way(self) -> Sequence[tuple[Job, Path]]:
        return list(self._under_way.values())

    def stop(self) -> Sequence[Outcome]:
        """Wait for the runs that Ctrl-C reaches here; those of other machines are given up, and run again."""
        deadline = time.monotonic() + LAST_SECONDS
        outcomes: list[Outcome] = []
        while self._under_way and time.monotonic() < deadline:
            outcomes += self.wait(1.0)
        if self._under_way:
            atexit.register(_leave)
        outcomes += [Outcome(job, "interrupted", folder=str(folder)) for job, folder in self._under_way.values()]
        self._under_way.clear()
        return outcomes

    def send_again(self, study: Path, uri: str, parent: Tracker) -> None:
        self._relay.send_again(unsent_runs(study), uri, parent)

    def close(self) -> None:
        """Wait for what is sent again: each run has sent its records itself."""
        self._relay.close()

    def give_up(self) -> None:
        self._relay.give_up()


def _leave() -> None:
    """End without Ray's own shutdown, which crashes while a thread still waits for a run that was given up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(InterruptedRun.exit_code)


def with_variable(name: str, value: str) -> str:
    """Return the override that gives a job an environment variable, a number or JSON."""
    value = value.replace("${", r"$\u007b")  # the same to JSON, and no interpolation to OmegaConf
    return f"+hydra.job.env_set.{name}={quoted(value)}"


def prepare(launcher: Launcher) -> None:
    """Let the launcher's processes find this package. To be called once, before the first launch."""
    places = [place for place in [*sys.path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)] if place]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(str(Path(place).absolute()) for place in places))
    settings = getattr(launcher, "ray_cfg", None)
    if settings is not None:
        _start_ray(settings)


def _start_ray(settings: Any) -> None:
    """Start Ray before threads could race for it. Each run gets its own process, so no state passes to the next."""
    import ray

    settings.remote.setdefault("max_calls", 1)
    if ray.is_initialized():
        return
    arguments: dict[str, Any] = OmegaConf.to_container(settings.init, resolve=True)  # type: ignore[assignment]
    try:
        ray.init(**{"log_to_driver": False, **arguments})
    except Exception as error:  # Ray's own families
        raise ConfigError(
            f"hydra.launcher.ray.init={arguments}: Ray did not start: {str(error).splitlines()[0]}; "
            "check the address, or leave it out to use this machine"
        ) from error


def _cores_of_a_job(launcher: Any, workers: int) -> int:
    """Return the cores that the launcher reserves for a job, else each worker's share of this machine's."""
    ray = getattr(launcher, "ray_cfg", None)
    if ray is not None:
        return max(1, int(ray.remote.get("num_cpus", 1)))  # Ray reserves one unless told otherwise
    reserved = getattr(launcher, "params", {}).get("cpus_per_task")
    return int(reserved) if reserved else max(1, usable_cores() // workers)
