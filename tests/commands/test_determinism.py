"""The same command gives the same numbers, to the last bit, and the threads that may change them are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from commands import metric_rows, run_folders, train

SETTINGS = (
    "env=hopper", "num_envs=8", "rollout_steps=32", "minibatch_size=64", "epochs=4", "total_steps=4096", "seed=3",
    "eval_episodes=2", "eval_interval=2048", "checkpoint_interval=0", "logger=none",
)  # fmt: skip
Rows = list[dict[str, str]]


def rows_of(folder: Path, *arguments: str) -> list[tuple[Any, Rows]]:
    """Configuration and metrics, without the clock's, of every run that a command makes."""
    folder.mkdir()
    answer = train(folder, *arguments, *SETTINGS)
    assert answer.code == 0, answer.err
    found = []
    for run in run_folders(folder):
        rows = [{key: row[key] for key in row if not key.startswith("time/")} for row in metric_rows(run)]
        assert len(rows) > 10
        found.append((OmegaConf.load(run / "config.yaml"), rows))
    return found


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """Of each backend, from a process of its own."""
    folder = tmp_path_factory.mktemp("references")
    return {name: rows_of(folder / name, f"env.backend={name}")[0][1] for name in ("envpool", "gymnasium")}


def test_a_second_process_repeats_every_metric(references: dict[str, Rows], tmp_path: Path) -> None:
    assert references["envpool"] != references["gymnasium"], "their environments draw from other generators"
    for config, rows in rows_of(tmp_path / "again", "-m", "env.backend=envpool,gymnasium"):
        assert rows == references[config.env.backend]


def test_threads_of_the_simulation_and_of_the_cpp_update_change_nothing(
    references: dict[str, Rows], tmp_path: Path
) -> None:
    runs = rows_of(tmp_path / "threads", "-m", "env.backend=envpool", "trainer.threads=0,1", "env.num_threads=1,2,5")
    assert len(runs) == 6
    for config, rows in runs:
        assert rows == references["envpool"], (config.trainer.threads, config.env.num_threads)


def test_processes_for_environments_change_nothing(references: dict[str, Rows], tmp_path: Path) -> None:
    ((_, rows),) = rows_of(tmp_path / "async", "env.backend=gymnasium", "env.vectorization=async")
    assert rows == references["gymnasium"]


def test_images_repeat_every_metric(tmp_path: Path) -> None:
    images = ("env.id=MiniGrid-Empty-5x5-v0", "model=minigrid", "env.frame_stack=2")
    first, second = rows_of(tmp_path / "images", "-m", *images, "env.num_threads=1,2")
    assert first[1] == second[1]


def test_memory_repeats_every_metric(tmp_path: Path) -> None:
    first, second = rows_of(tmp_path / "memory", "-m", "model.memory=gru", "env.num_threads=1,2")
    assert first[1] == second[1]


@pytest.mark.slow
@pytest.mark.parametrize("compile_", ["auto", "false"])
def test_pytorch_repeats_itself_with_as_many_threads(compile_: str, tmp_path: Path) -> None:
    arguments = ("-m", "env.backend=envpool", f"compile={compile_}", "env.num_threads=2", "trainer.threads=1,2")
    first, second = (rows_of(tmp_path / name, *arguments) for name in ("first", "second"))
    assert [rows for _, rows in first] == [rows for _, rows in second]
