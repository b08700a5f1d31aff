"""Names of grids and of their runs, what there is of them, and what they came to."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import make_config

from ppolab.config.loading import to_yaml
from ppolab.config.schema import Config
from ppolab.errors import ConfigError
from ppolab.records.run_folder import RunFolder
from ppolab.study.grid import (
    GridJob,
    grid_name,
    identity,
    measured,
    run_names,
    shortened,
    state_of,
    there_already,
)
from ppolab.study.grid_record import Grid, GridRecord, GridResult
from ppolab.training.trial import GRID_RUN, run_of_grid


def config(**changes: Any) -> Config:
    return make_config(**{"env": "cartpole", **changes})


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_run_is_named_by_environment_and_what_is_varied() -> None:
    varied = [{"clip": "0.1", "seed": "0"}, {"clip": "0.1", "seed": "1"}]
    assert run_names([config(), config(seed=1)], varied) == [
        "CartPole-v1 clip=0.1 seed=0",
        "CartPole-v1 clip=0.1 seed=1",
    ]


def test_the_environment_is_not_named_twice() -> None:
    tasks = [config(), config(env="hopper")]
    assert run_names(tasks, [{"env": "cartpole"}, {"env": "hopper"}]) == ["CartPole-v1 seed=0", "Hopper-v5 seed=0"]
    both = [{"env": "cartpole", "+env.kwargs.a": "1"}, {"env": "hopper", "+env.kwargs.a": "2"}]
    assert run_names(tasks, both) == ["CartPole-v1 env.kwargs.a=1", "Hopper-v5 env.kwargs.a=2"]


def test_a_name_of_the_users_stands_first() -> None:
    named = [config(**{"logger.run_name": name}) for name in ("mine", "other")]
    assert run_names(named, [{"env": "cartpole"}, {"env": "cartpole"}]) == ["mine env=cartpole", "other env=cartpole"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.1", "0.1"),
        ("0.30000000000000004", "0.3"),
        ("0.00012345678", "0.000123457"),
        ("[64,64]", "[64,64]"),
        ("my_package.networks:TheWidestOfAll", "my_package.networks:The…"),
    ],
)
def test_long_values_are_shortened(value: str, expected: str) -> None:
    assert shortened(value) == expected


def test_names_that_would_be_equal_are_not_shortened() -> None:
    varied = [{"clip": "0.10000001"}, {"clip": "0.10000002"}]
    assert run_names([config(), config()], varied) == ["CartPole-v1 clip=0.10000001", "CartPole-v1 clip=0.10000002"]


def test_a_grid_is_named_by_what_it_varies() -> None:
    name = grid_name([config(), config(seed=1)], ["optimizer.lr", "seed"])
    assert name.startswith("CartPole-v1-lr-seed-")
    assert len(name) == len("CartPole-v1-lr-seed-") + 8
    tasks = grid_name([config(), config(env="hopper")], ["env", "clip", "gamma", "epochs", "seed"])
    assert tasks.startswith("tasks-clip-gamma-epochs-")
    assert grid_name([make_config(**{"env.id": "my_package:MyEnv-v0"})], []).startswith("my_package-MyEnv-v0-")


@pytest.mark.parametrize("change", [{"total_steps": 5000}, {"clip": 0.15}, {"eval_interval": 77}, {"seed": 3}])
def test_another_setting_makes_another_grid(change: dict[str, Any]) -> None:
    assert grid_name([config()], []) != grid_name([config(**change)], [])


@pytest.mark.parametrize(
    "change", [{"logger": "none"}, {"progress": "off"}, {"trainer.threads": 2}, {"checkpoint_interval": 9}]
)
def test_what_changes_no_number_leaves_the_grid_as_it_is(change: dict[str, Any]) -> None:
    assert grid_name([config()], []) == grid_name([config(**change)], [])
    assert identity(config()) == identity(config(**change))


# --- what is there already -------------------------------------------------------------------------------------------


def job(folder: Path, number: int = 0, **changes: Any) -> GridJob:
    varied = {"seed": str(number)}
    own = config(seed=number, **changes)
    return GridJob(
        number, ("env=cartpole", f"seed={number}"), varied, own, f"CartPole-v1 seed={number}", RunFolder(folder)
    )


def begun(job: GridJob, rows: str = "", *, finished: bool = False) -> GridJob:
    job.folder.path.mkdir(exist_ok=True)
    job.folder.config.write_text(to_yaml(job.config))
    job.folder.metrics.write_text("step,train/return,eval/return\n" + rows)
    job.folder.write_record(None, "", finished=finished)
    return job


def test_the_state_of_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    mine = job(tmp_path / "0")
    assert state_of(mine) == "new"
    begun(mine)
    assert state_of(mine) == "new", "without a checkpoint there is nothing to go on from"
    mine.folder.checkpoint("last").parent.mkdir()
    mine.folder.checkpoint("last").touch()
    assert state_of(mine) == "interrupted"
    assert state_of(begun(mine, finished=True)) == "done"


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    begun(job(tmp_path, clip=0.1), finished=True)
    with pytest.raises(ConfigError, match=r": holds a run with other settings: clip 0\.1 -> 0\.2; remove it .*rm -r"):
        state_of(job(tmp_path, clip=0.2))


def test_a_damaged_configuration_is_refused(tmp_path: Path) -> None:
    mine = begun(job(tmp_path))
    mine.folder.config.write_text("clip: [")
    with pytest.raises(ConfigError, match=r"damaged, or of another version of ppolab.*remove it"):
        state_of(mine)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["new", "new"], "grid          g: 2 jobs"),
        (
            ["done", "interrupted", "new", "done"],
            "grid          g: 2 of 4 are done, 1 goes on from the last checkpoint",
        ),
        (["done", "done"], "grid          g: 2 of 2 are done"),
        (["interrupted", "interrupted"], "grid          g: 0 of 2 are done, 2 go on from the last checkpoint"),
    ],
)
def test_a_line_says_what_is_there(states: list[Any], expected: str) -> None:
    again = "" if set(states) == {"new"} else "; to begin again: rm -r g"
    assert there_already(states, Path("g")) == expected + again


def test_values_of_a_finished_run_are_the_last_ones(tmp_path: Path) -> None:
    mine = begun(job(tmp_path, objective="eval/return,policy/kl"), "64,1.0,\n64,,3.5\n128,2.0,\n128,,4.5\n")
    value, missing = measured(mine)
    assert value == 4.5
    assert math.isnan(missing)


# --- what it came to -------------------------------------------------------------------------------------------------


def result(
    folder: Path, values: Sequence[float], failed: Sequence[int] = (), direction: str = "maximize"
) -> GridResult:
    jobs = [job(folder / str(number), number) for number in range(len(values) + len(failed))]
    grid = Grid(folder, jobs, ("env=cartpole",), {"seed": [str(each.number) for each in jobs]}, direction)
    done = [number for number in range(len(jobs)) if number not in failed]
    return GridResult(grid, {number: (value,) for number, value in zip(done, values, strict=True)}, failed)


def test_the_summary_names_the_best_run() -> None:
    text = result(Path("g"), [100.0, 300.0, 200.0]).summary
    assert text.splitlines()[:2] == [
        "grid          g: 3 complete",
        "best          eval/return 300.0  CartPole-v1 seed=1",
    ]
    assert text.splitlines()[2].endswith("run=g/1")


def test_the_best_may_be_the_least() -> None:
    assert [job.number for job in result(Path("g"), [3.0, 1.0, 2.0], direction="minimize").best] == [1]


def test_runs_with_the_same_value_are_counted() -> None:
    text = result(Path("g"), [500.0, 500.0, 500.0, 10.0], failed=[4]).summary
    assert text.startswith(
        "grid          g: 4 complete, 1 failed\nbest          eval/return 500.0  CartPole-v1 seed=0 (and 2 "
    )


def test_without_a_value_there_is_no_best() -> None:
    found = result(Path("g"), [math.nan], failed=[1])
    assert found.summary == "grid          g: 1 complete, 1 failed"
    assert found.metrics == {"runs/finished": 1.0, "runs/failed": 1.0}
    assert set(found.tags) == {"mlflow.note.content"}


def test_the_tracking_run_gets_counts_and_the_best() -> None:
    found = result(Path("g"), [100.0, 300.0])
    assert found.metrics == {"runs/finished": 2.0, "runs/failed": 0.0, "best/eval/return": 300.0}
    assert (found.tags["best.run"], found.tags["best.seed"]) == ("CartPole-v1 seed=1", "1")


def test_a_run_is_told_its_name_and_how_to_train_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = result(Path("g"), [100.0, 300.0]).grid
    text = GridRecord(grid, None).reference(grid.jobs[1])
    assert json.loads(text)["parent"] is None
    monkeypatch.setenv(GRID_RUN, text)
    told = run_of_grid()
    assert told is not None
    assert told.run_name == "CartPole-v1 seed=1"
    assert (told.tags["grid"], told.tags["grid.job"]) == ("g", "1")
    assert told.tags["command.alone"].endswith(" env=cartpole seed=1")
    assert told.report(1, 0.0) is False
