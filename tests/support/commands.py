"""The real commands, run as a user would: in a folder of their own, with a clean environment, without a terminal."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAIN, EVALUATE, REPORT, EXPORT = (ROOT / f"src/{name}.py" for name in ("train", "evaluate", "report", "export"))
TINY = ("num_envs=4", "rollout_steps=16", "minibatch_size=32", "compile=false", "eval_episodes=2")
"""A run of seconds; a batch is 64 steps."""

USER_ENVIRONMENTS = '''
"""What a user's own module may hold."""
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Text


class Simple(gymnasium.Env):
    observation_space, action_space = Box(-1, 1, (3,), np.float32), Discrete(2)

    def __init__(self, render_mode=None, limit=20):
        self.steps, self.limit = 0, limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps % self.limit == 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), self.reward(), ended, False, {}

    def reward(self):
        return 1.0


class Words(Simple):
    observation_space = Text(5)


class Mixed(Simple):
    observation_space = Dict(place=Box(-1, 1, (3,), np.float32), order=Text(5))


class Picture(Simple):
    observation_space = Box(0, 255, (20, 20, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((20, 20, 3), np.uint8), {}


class NeedsPackage(Simple):
    def __init__(self, render_mode=None):
        raise gymnasium.error.DependencyNotInstalled("box2d is not installed; pip install 'gymnasium[box2d]'")


class Breaks(Simple):
    def reward(self):
        if self.steps == 50:
            raise RuntimeError("the simulator is on fire")
        return 1.0


class Explodes(Simple):
    def reward(self):
        return 1e300 if self.steps > 100 else 1.0


for kind in (Simple, Words, Mixed, Picture, NeedsPackage, Breaks, Explodes):
    gymnasium.register(f"{kind.__name__}-v0", entry_point=kind)
'''


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str
    seconds: float


def clean_environment() -> dict[str, str]:
    """This process's environment without what would change ppolab's answers."""
    dropped = ("PYTHONPATH", "HYDRA_FULL_ERROR", "MLFLOW_TRACKING_URI", "PYTHONWARNINGS", "XDG_RUNTIME_DIR")
    return {key: value for key, value in os.environ.items() if key not in dropped and not key.startswith("COV_")}


def run_command(folder: Path, command: Sequence[object], timeout: float = 180) -> Answer:
    started = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=clean_environment(), capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr, time.perf_counter() - started)


def train(folder: Path, *arguments: object, timeout: float = 180) -> Answer:
    """`python src/train.py ...`, typed in `folder`."""
    return run_command(folder, (sys.executable, TRAIN, *arguments), timeout)


def evaluate(folder: Path, *arguments: object) -> Answer:
    """`python src/evaluate.py ...`, typed in `folder`."""
    return run_command(folder, (sys.executable, EVALUATE, *arguments))


def export(folder: Path, *arguments: object) -> Answer:
    """`python src/export.py ...`, typed in `folder`."""
    return run_command(folder, (sys.executable, EXPORT, *arguments))


def report(folder: Path, *arguments: object) -> Answer:
    """`python src/report.py ...`, typed in `folder`."""
    return run_command(folder, (sys.executable, REPORT, *arguments))


def start_training(folder: Path, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    """`python src/train.py ...` in the background, for a signal to reach it."""
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *map(str, arguments)], cwd=folder, env=clean_environment() | variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def session(folder: Path, *command: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own, of which nothing may be left afterwards."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=folder, env=clean_environment() | variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
        wait_until(lambda: not left_of(process.pid), 30)
    finally:
        for pid in left_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def left_of(session_id: int) -> list[int]:
    """Processes of the session that are still there, zombies aside."""
    found = subprocess.run(["ps", "-eo", "pid=,sid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in found.splitlines())
    return [int(pid) for pid, sid, state in rows if int(sid) == session_id and not state.startswith("Z")]


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> float:
    """Wait for what must happen in time; returns how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - started


def ended(process: subprocess.Popen[str], seconds: float = 180) -> Answer:
    """What it did, once it has ended by itself."""
    started = time.monotonic()
    out, err = process.communicate(timeout=seconds)
    return Answer(process.returncode, out, err, time.monotonic() - started)


def train_together(folder: Path, at_once: int = 3, **commands: Sequence[object]) -> dict[str, Answer]:
    """Several `python src/train.py ...` by name, a few at a time, which takes half as long as one after another."""
    with ThreadPoolExecutor(at_once) as pool:
        answers = pool.map(lambda arguments: train(folder, *arguments), commands.values())
        return dict(zip(commands, answers, strict=True))


def assert_one_line(answer: Answer, *expected: str, code: int = 2) -> None:
    """One line on stderr that holds all of `expected`, nothing on stdout."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    for part in expected:
        assert part in answer.err
    assert answer.err.startswith("ppolab: ")


def write_user_module(folder: Path) -> None:
    (folder / "user_module.py").write_text(USER_ENVIRONMENTS)


def run_folders(folder: Path) -> list[Path]:
    """The folders of all runs made in `folder`, oldest first."""
    return sorted(config.parent for config in (folder / "outputs").rglob("config.yaml") if _is_run(config))


def _is_run(config: Path) -> bool:
    return config.parent.name != ".hydra" and "mlartifacts" not in config.parts


def metric_rows(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv as they stand."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def series(run: Path, name: str) -> dict[int, float]:
    """One metric by environment step, from metrics.csv; a step that is there twice fails."""
    points = [(int(row["step"]), float(row[name])) for row in metric_rows(run) if row[name]]
    assert len(dict(points)) == len(points), f"{name} was logged twice at one step"
    return dict(points)
