"""A store with runs that nobody has trained: a grid, what sweeps leave behind, and what no report can be made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlflow import MlflowClient

TASKS = ("Ant-v5", "CartPole-v1", "Hopper-v5")
CLIPS = (0.1, 0.2, 0.3)
SEEDS = range(4)
SCALE = {"Ant-v5": 3000.0, "CartPole-v1": 100.0, "Hopper-v5": 1000.0}
STEPS = (0, 5_000, 10_000, 15_000, 20_000)


class Store:
    """A store that runs are written into without training."""

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        (folder / "outputs").mkdir()
        self.folder = folder
        self.uri = f"sqlite:///{folder}/outputs/mlflow.db"
        self.client: MlflowClient = MlflowClient(self.uri)
        self._experiments: dict[str, str] = {}
        self._time = 1_700_000_000_000

    def add(
        self,
        experiment: str,
        score: float | None,
        *,
        status: str = "FINISHED",
        tags: Mapping[str, str] = {},
        steps: tuple[int, ...] = STEPS,
        **parameters: object,
    ) -> str:
        """One run; parameters with __ for the point in their names. Its id."""
        from mlflow.entities import Metric, Param

        if experiment not in self._experiments:
            root = (self.folder / "outputs/mlartifacts").as_uri()
            self._experiments[experiment] = self.client.create_experiment(experiment, root)
        self._time += 1000
        names = {key.replace("__", "."): value for key, value in parameters.items()}
        name = f"{names.get('env.id', 'group')}-seed{names.get('seed', '')}"
        run = self.client.create_run(self._experiments[experiment], self._time, dict(tags), name).info.run_id
        points = [Metric("train/return", 0.9 * (score or 0.0) * step / STEPS[-1], self._time, step) for step in steps]
        if score is not None:
            points.append(Metric("eval/return", score / 2, self._time, 10_000))
            points.append(Metric("eval/return", score, self._time, 20_000))
        self.client.log_batch(run, points, [Param(key, str(value)) for key, value in names.items()])
        if status != "RUNNING":
            self.client.set_terminated(run, status, self._time + 500)
        return str(run)


def scores_of_grid() -> dict[tuple[str, float], NDArray[np.float64]]:
    rng = np.random.default_rng(5)
    return {
        (task, clip): SCALE[task] * (clip + rng.gamma(2.0, 0.3, size=len(SEEDS))) for task in TASKS for clip in CLIPS
    }


GRID = scores_of_grid()


def add_grid(store: Store) -> None:
    common = {"num_envs": 8, "target_kl": None, "env__backend": "auto", "env__kwargs": "{}"}
    for (task, clip), scores in GRID.items():
        learning_rate = {"optimizer__lr": 0.001 if task == "CartPole-v1" else 0.0003}  # a setting of the task
        for seed, score in zip(SEEDS, scores, strict=True):
            more: dict[str, Any] = common | learning_rate | {"compile": seed % 2 == 0}
            store.add(
                "grid",
                float(score),
                tags={"host": "it's me", "git.commit": "12e4"},
                env__id=task,
                clip=clip,
                seed=seed,
                **more,
            )


def add_odd(store: Store) -> None:
    """A study with all that a sweep may leave behind."""
    study = {"study": "s"}
    parent = store.add("odd", None, tags=study, study="s")
    below = study | {"mlflow.parentRunId": parent}
    both: dict[str, Any] = {"env__id": "CartPole-v1", "seed": 0}
    store.add("odd", 10.0, tags=below, clip=0.1, **both)
    store.add("odd", 20.0, tags=below, clip=0.1, **(both | {"seed": 1}))
    store.add("odd", 30.0, tags=below, clip=0.2, **both)
    store.add("odd", 40.0, tags=below, clip=0.2, **both)  # newer than the one before
    store.add("odd", 5.0, tags=below, status="FAILED", clip=0.2, **(both | {"seed": 1}))
    store.add("odd", 5.0, tags=below, status="RUNNING", clip=0.2, **(both | {"seed": 2}))
    store.add("odd", 5.0, tags=below | {"ended": "pruned"}, status="KILLED", clip=0.3, **both)
    store.add("odd", None, tags=below, clip=0.2, **(both | {"seed": 3}))
    seeds = store.add("odd", 99.0, tags=below, clip=0.9, **both)  # a trial that holds its seeds together
    store.add("odd", 50.0, tags=study | {"mlflow.parentRunId": seeds}, clip=0.2, **(both | {"seed": 4}))


def add_family(store: Store) -> None:
    """Algorithms, each with settings that others lack or do not read, and other defaults."""
    common: dict[str, Any] = {"env__id": "Ant-v5", "seed": 0, "target_kl": 0.02}
    for clip in (0.1, 0.2):
        store.add("family", clip, algorithm__name="ppo_clip", algorithm__ignores=[], clip=clip, epochs=10, num_envs=32,
                  algorithm__anneal_clip=False, **common)  # fmt: skip
    for d_targ in (0.01, None):
        store.add("family", 1.0, algorithm__name="ppo_penalty", algorithm__ignores=["clip"], clip=0.2, epochs=10,
                  num_envs=32, algorithm__beta=1.0, algorithm__d_targ=d_targ, **common)  # fmt: skip
    store.add("family", 2.0, algorithm__name="trpo", algorithm__ignores=["clip", "epochs"], clip=0.3, epochs=10,
              num_envs=16, algorithm__max_kl=0.01, **common)  # fmt: skip


def add_others(store: Store) -> None:
    for value in (math.nan, 1.0):
        store.add("nan", value, env__id="Ant-v5", seed=0, clip=value)
    store.add("infinite", math.inf, env__id="Ant-v5", seed=0)
    store.add("running", 1.0, status="RUNNING", env__id="Ant-v5", seed=0)
    store.add("unmeasured", None, env__id="Ant-v5", seed=0)
    store.add("same", 1.0, env__id="Ant-v5", seed=0)
    store.add("same", 2.0, env__id="Ant-v5", seed=0, compile=False)
    for clip, task, count in ((0.1, "Ant-v5", 4), (0.2, "Ant-v5", 3), (0.1, "Hopper-v5", 2), (0.2, "Hopper-v5", 1)):
        for seed in range(count):
            store.add("uneven", 10 * clip + seed, env__id=task, seed=seed, clip=clip, steps=(0, 1000 * (seed + 1)))
    store.add("uneven", 1.0, env__id="Pusher-v5", seed=0, clip=0.1)
    for task, clip in (("Ant-v5", 0.1), ("Ant-v5", 0.2), ("Hopper-v5", 0.3)):
        store.add("apart", clip, env__id=task, seed=0, clip=clip)
    for difficulty in (1, 2):
        store.add("arguments", 1.0, env__id="My-v0", seed=0, env__kwargs__difficulty=difficulty, env__kwargs__size=3)
    add_family(store)
    for trial in range(14):
        store.add("many", float(trial), env__id="Ant-v5", seed=0, clip=trial / 100, model__hidden_sizes=[64, 64])
