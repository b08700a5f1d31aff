"""An environment that makes trouble for the run around it, and what every run that met trouble must have kept."""

from __future__ import annotations

import json
from pathlib import Path

from servers import client_of

from commands import metric_rows, run_folders, series
from ppolab.records.checkpoint import load_checkpoint

TROUBLED = '''
"""An environment that makes trouble at one of its steps."""
import ctypes
import os
import resource
import shutil
import sys
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


def fill(folder):
    with open(Path(folder) / "filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def remove_run():
    shutil.rmtree("outputs/runs/folder-removed", ignore_errors=True)


def first_time(trouble):
    """A resumed environment comes to the same step again."""
    mark = Path(f"{trouble}.happened")
    if mark.exists():
        return False
    mark.touch()
    return True


class Troubled(gymnasium.Env):
    observation_space, action_space = Box(-1, 1, (3,), np.float32), Discrete(2)

    def __init__(self, render_mode=None, trouble="", at=100, until=10**9, folder="", mark=""):
        self.steps, self.trouble, self.at, self.until, self.folder, self.mark = 0, trouble, at, until, folder, mark
        if trouble == "little memory" and "pytorch_lightning" in sys.modules:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        observation, reward = self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0
        if self.steps == self.at:
            observation, reward = self.happens(observation)
        if self.steps == self.until:
            (Path(self.folder) / "filler").unlink(missing_ok=True)
        return observation, reward, self.steps % 20 == 0, False, {}

    def happens(self, observation):
        if self.trouble == "nan observation":
            observation[0] = np.nan
        if self.trouble == "no memory":
            raise MemoryError("Unable to allocate 8.00 TiB")
        if self.trouble == "full disk" and first_time(self.mark):
            fill(self.folder)
        if self.trouble == "folder removed":
            remove_run()
        if self.trouble == "all removed":
            shutil.rmtree("outputs", ignore_errors=True)
        if self.trouble == "crash" and first_time(self.trouble):
            ctypes.string_at(0)
        return observation, np.inf if self.trouble == "infinite reward" else 1.0


gymnasium.register("Troubled-v0", entry_point=Troubled)
'''
SMALL = (
    "num_envs=4", "rollout_steps=16", "minibatch_size=32", "compile=false", "eval_episodes=2", "eval_interval=0",
    "checkpoint_interval=128", "total_steps=1024", "logger.video=false", "env.backend=gymnasium",
)  # fmt: skip
"""A batch is 64 steps."""


def troubled(trouble: str, **settings: object) -> tuple[str, ...]:
    """The command line of a run that meets `trouble`; one environment at its step 100 has made 400 of the run's."""
    arguments = ", ".join(f"{key}: {value}" for key, value in {"trouble": trouble, **settings}.items())
    return ("env.id=troubled:Troubled-v0", f"env.kwargs={{{arguments}}}", *SMALL)


def workspace_in(folder: Path) -> Path:
    """A folder in which the environment above can be named."""
    folder.mkdir(exist_ok=True)
    (folder / "troubled.py").write_text(TROUBLED)
    return folder


def only_run(folder: Path) -> Path:
    (run,) = run_folders(folder)
    return run


def run_id_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["run_id"])


def last_steps(run: Path) -> int:
    """Steps that the last checkpoint holds."""
    return int(load_checkpoint(run / "checkpoints/last.ckpt").module["steps"])


def assert_tracked(run: Path, uri: str, status: str) -> None:
    """The store holds every row of metrics.csv once, and how the run ended; of rows made again, the first clock."""
    client, run_id = client_of(uri), run_id_of(run)
    assert client.get_run(run_id).info.status == status
    assert len(metric_rows(run)) > 2
    for name in ("loss/value", "time/total"):
        points = [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        assert len(dict(points)) == len(points), f"{name} was stored twice at one step"
        rows = series(run, name)
        assert dict(points).keys() == rows.keys()
        assert name.startswith("time/") or dict(points) == rows


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder}/outputs/mlflow.db"
