"""A grid goes on by its own command: whole commands, with a pool whose runs only write their files."""

from __future__ import annotations

import importlib
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from in_process import call

from commands import Answer, assert_one_line
from ppolab.cli.commands import train_main
from ppolab.config.loading import from_hydra, to_yaml
from ppolab.records.run_folder import RunFolder, locked
from ppolab.runtime.fork_server import EndedProcess
from ppolab.training.trial import GRID_RUN

SAME = ("-m", "env=cartpole", "logger=none")
FOLDER = "outputs/grids/CartPole-v1-clip-"

End = Callable[[int, RunFolder], EndedProcess]


def finish(key: int, folder: RunFolder) -> EndedProcess:
    folder.write_record(None, "", finished=True)
    return EndedProcess(key, 100.0 + key, None)


def save_and_end(key: int, folder: RunFolder) -> EndedProcess:
    """As a run does when it is asked to."""
    signal.raise_signal(signal.SIGINT)
    folder.checkpoint("last").parent.mkdir()
    folder.checkpoint("last").touch()
    text = "Traceback\nppolab.errors.InterruptedRun: stopped after 64 of 99 steps, everything is saved; go on with: x"
    return EndedProcess(key, None, text)


def fail(key: int, folder: RunFolder) -> EndedProcess:
    return EndedProcess(key, None, "Traceback\nppolab.errors.EnvError: the simulator is on fire")


class FakePool:
    """Its runs end one after another, as `ends` says by their numbers, otherwise well; none computes anything."""

    def __init__(self, ends: dict[int, End]) -> None:
        self.capacity = 1
        self.started: dict[int, tuple[Any, dict[str, str]]] = {}
        self.interruptions = 0
        self._ends = ends
        self._running: list[tuple[int, RunFolder]] = []

    def start(self, key: int, function: Any, arguments: Any, output: Path, environment: dict[str, str]) -> None:
        (node,) = arguments
        folder = RunFolder(output.parent)
        self.started[key] = node, environment
        self._running.append((key, folder))
        folder.path.mkdir(parents=True, exist_ok=True)
        without_hydra = importlib.import_module("hydra_plugins.hydra_ppolab._compose").without_hydra
        folder.config.write_text(to_yaml(from_hydra(without_hydra(node))))
        folder.metrics.write_text(f"step,eval/return\n64,{100.0 + key}\n")
        folder.write_record(None, "")

    def wait(self, seconds: float) -> list[EndedProcess]:
        ended, self._running = self._running, []
        return [self._ends.get(key, finish)(key, folder) for key, folder in ended]

    def interrupt(self) -> None:
        self.interruptions += 1

    @property
    def has_room(self) -> bool:
        return len(self._running) < self.capacity

    @property
    def is_idle(self) -> bool:
        return not self._running


class Grids:
    """Calls the command of a grid with such a pool."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch

    def __call__(self, *arguments: str, ends: dict[int, End] | None = None) -> tuple[Answer, FakePool]:
        pool = FakePool(ends or {})
        return self.with_pool(pool, *arguments), pool

    def with_pool(self, pool: FakePool, *arguments: str) -> Answer:
        module = importlib.import_module("hydra_plugins.hydra_ppolab._grid")
        self._monkeypatch.setattr(module, "make_pool", lambda _config, own_code: pool)
        return call(train_main, self.folder, self._capsys, *SAME, *arguments)


@pytest.fixture
def grid(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grids:
    Plugins.instance()  # which imports the plugins a second time, if they were imported before
    return Grids(tmp_path, capsys, monkeypatch)


TWO = ("clip=0.1,0.2",)
THREE = ("clip=0.1,0.2,0.3",)


def test_the_same_command_starts_nothing_that_is_done(grid: Grids) -> None:
    first, pool = grid("clip=0.1", "seed=0,1")
    assert first.code == 0, first.err
    assert sorted(pool.started) == [0, 1]
    (name,) = [path.name for path in (grid.folder / "outputs/grids").iterdir()]
    told = json.loads(pool.started[1][1][GRID_RUN])
    assert told["name"] == "CartPole-v1 seed=1"
    lines = first.out.splitlines()
    assert lines[:3] == [
        f"grid          outputs/grids/{name}: 2 jobs",
        "job 0    started      seed=0",
        f"job 0    complete     eval/return 100  seed=0  outputs/grids/{name}/0",
    ]
    assert lines[-3:-1] == [
        f"grid          outputs/grids/{name}: 2 complete",
        "best          eval/return 101.0  CartPole-v1 seed=1",
    ]
    second, pool = grid("clip=0.1", "seed=0,1", "workers=2", "progress=off")
    assert (second.code, pool.started) == (0, {})
    there = f"grid          outputs/grids/{name}: 2 of 2 are done; to begin again: rm -r outputs/grids/{name}"
    assert second.out.splitlines() == [there, *lines[-3:]]


def test_another_setting_is_another_grid(grid: Grids) -> None:
    grid("clip=0.1", "seed=0,1")
    _, pool = grid("clip=0.1", "seed=0,1", "total_steps=5000")
    assert len(pool.started) == 2
    assert len(list((grid.folder / "outputs/grids").glob("CartPole-v1-seed-*"))) == 2


def test_what_ctrl_c_ended_goes_on_and_the_rest_is_started(grid: Grids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ppolab-train", *SAME, *THREE])
    stopped, pool = grid(*THREE, ends={1: save_and_end})
    assert (stopped.code, sorted(pool.started)) == (130, [0, 1])
    (line,) = [line for line in stopped.out.splitlines() if line.startswith("job 1") and "started" not in line]
    begin = "job 1    interrupted  stopped after 64 of 99 steps, everything is saved  clip=0.2  "
    assert line.startswith(begin + FOLDER)
    assert stopped.err.endswith(
        "ppolab: stopped; 1 of 3 jobs are done, and what the others saved is kept; "
        "go on with: ppolab-train -m env=cartpole logger=none clip=0.1,0.2,0.3\n"
    )
    second, pool = grid(*THREE)
    assert second.code == 0, second.err
    assert "1 of 3 are done, 1 goes on from the last checkpoint" in second.out.splitlines()[0]
    assert "job 1    goes on      clip=0.2" in second.out
    resumed = {number: node.resume for number, (node, _) in pool.started.items()}
    assert resumed == {1: str(next(grid.folder.glob(f"{FOLDER}*")).relative_to(grid.folder) / "1"), 2: None}


def test_running_jobs_are_interrupted_once(grid: Grids) -> None:
    class Slow(FakePool):
        def wait(self, seconds: float) -> list[EndedProcess]:
            waited.append(seconds)
            if len(waited) == 1:
                signal.raise_signal(signal.SIGINT)
            return super().wait(seconds) if len(waited) == 4 else []

    waited: list[float] = []
    pool = Slow({0: fail})
    answer = grid.with_pool(pool, *TWO)
    assert (answer.code, pool.interruptions) == (130, 1), "a second signal would end a run without its checkpoint"
    assert "job 0    interrupted  before its first step  clip=0.1" in answer.out


def test_what_failed_is_told_and_tried_again(grid: Grids) -> None:
    answer, _ = grid(*TWO, ends={0: fail})
    assert answer.code == 1
    assert "job 0    failed       the simulator is on fire  clip=0.1" in answer.out
    assert "1 complete, 1 failed" in answer.out
    assert re.search(r"^ppolab: 1 of 2 jobs failed, the first of them .*clip=0\.1; what it said is in ", answer.err)
    again, pool = grid(*TWO)
    assert (again.code, sorted(pool.started)) == (0, [0])


def test_a_folder_of_the_users_own_is_the_grids(grid: Grids) -> None:
    own = "hydra.sweep.dir=my runs/first"
    answer, _ = grid(own, "clip=0.1,0.2")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in (grid.folder / "my runs/first").glob("?")) == ["0", "1"]
    assert grid(own, "clip=0.1,0.2")[1].started == {}
    other, pool = grid(own, "clip=0.1,0.3")
    assert_one_line(other, "my runs/first/1", "clip 0.2 -> 0.3", "hydra.sweep.dir")
    assert pool.started == {}


def test_two_commands_do_not_work_on_one_grid(grid: Grids) -> None:
    grid(*TWO)
    (folder,) = grid.folder.glob("outputs/grids/*")
    with locked(folder, "it is mine"):
        assert_one_line(grid(*TWO)[0], "another process works on this grid")


def test_settings_of_a_search_file_are_in_the_command_of_each_run(grid: Grids) -> None:
    (grid.folder / "sweeps/search").mkdir(parents=True)
    text = "# @package _global_\nepochs: 3\nhydra:\n  sweeper:\n    params:\n      clip: 0.1,0.2\n"
    (grid.folder / "sweeps/search/mine.yaml").write_text(text)
    answer, pool = grid("search=mine")
    assert answer.code == 0, answer.err
    assert [node.epochs for node, _ in pool.started.values()] == [3, 3]
    alone = json.loads(pool.started[1][1][GRID_RUN])["tags"]["command.alone"]
    assert "epochs=3" in alone
    assert "clip=0.2" in alone
    assert "search" not in alone
