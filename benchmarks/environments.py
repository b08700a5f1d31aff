"""Try every environment of EnvPool: can it be made, is it trained, and what does it look like?

    python benchmarks/environments.py run --jobs 2
    python benchmarks/environments.py report

`run` tries each id in a process of its own, since a few end the process that makes them: it trains two iterations
of 16 steps, in which episodes end after 6 steps where the id knows a limit, and evaluates one episode of at most 50
steps. One row per id goes to docs/results/environments.csv. Rows that are there are not tried again, so a stopped
run goes on with the same command; `--again REASON` tries those whose reason contains the text. `report` writes
docs/environments.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from environments_report import Row, write_report
from processes import ROOT
from result_tables import append_rows, read_rows

TABLE = ROOT / "docs/results/environments.csv"
PAGE = ROOT / "docs/environments.md"
FORKS = multiprocessing.get_context("forkserver")
"""Imports the heavy packages once, instead of once per id."""
RESULT, SAID = "result.json", "output.txt"
PATIENCE = 240.0
"""Seconds after which a process that tries an id is ended."""
ENVS, TIMED_SECONDS = 16, 0.5
TRAINED = {
    "total_steps": 128, "num_envs": 4, "rollout_steps": 16, "minibatch_size": 32, "epochs": 1, "eval_episodes": 1,
    "eval_interval": 0, "logger": "none",
}  # fmt: skip
EVALUATION_STEPS = 50
LIMIT = 6
"""Steps per episode in training, where the id takes a limit: what happens after an end is to be tried, too."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--jobs", type=int, default=2)
    run.add_argument("--family", nargs="*", help="only these, as minigrid or mujoco.dmc")
    run.add_argument("--again", help="try ids again whose reason contains this text")
    commands.add_parser("report")
    arguments = parser.parse_args()
    if arguments.command == "report":
        write_report(read_rows(TABLE, Row), PAGE)
    else:
        run_all(arguments.jobs, arguments.family, arguments.again)


def run_all(jobs: int, families: Sequence[str] | None, again: str | None) -> None:
    """Try all ids that have no row yet, `jobs` at a time."""
    rows = read_rows(TABLE, Row)
    if again is not None:
        rows = [row for row in rows if again not in row.reason]
        TABLE.unlink()
        append_rows(TABLE, Row, rows)
    known = {row.id for row in rows}
    ids = [(name, family) for name, family in all_ids() if name not in known and (not families or family in families)]
    os.environ["OMP_NUM_THREADS"] = "1"
    FORKS.set_forkserver_preload(["ppolab.training.run", "hydra", "envpool.registration"])
    with ThreadPoolExecutor(jobs) as pool:
        for done, row in enumerate(pool.map(lambda each: row_of(*each), ids), 1):
            append_rows(TABLE, Row, [row])
            print(f"{done} of {len(ids)}  {row.id}  {row.reason or 'trains'}", flush=True)


def all_ids() -> list[tuple[str, str]]:
    """Return all ids of EnvPool, each with its family."""
    import envpool
    from envpool.registration import registry

    return sorted((name, str(registry.specs[name][0]).removeprefix("envpool.")) for name in envpool.list_all_envs())


def row_of(env_id: str, family: str) -> Row:
    """Try one id in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        process = FORKS.Process(target=_try, args=(env_id, folder))
        process.start()
        process.join(PATIENCE)
        code = "it took too long" if process.exitcode is None else f"exit code {process.exitcode}"
        with contextlib.suppress(ProcessLookupError):  # it and what it has started: ViZDoom leaves its games running
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        result = Path(folder) / RESULT
        if result.exists():
            found = json.loads(result.read_text())
        else:
            said = (Path(folder) / SAID).read_text(errors="replace").split("\n")
            last = next((line for line in reversed(said) if line.strip()), "no message")
            found = {"reason": f"the process that tried it ended: {code}: {last.strip()[:200]}"}
    empty: dict[str, Any] = {"observation": "", "action": "", "limit": None, "steps_per_second": None, "reason": ""}
    return Row(id=env_id, family=family, **(empty | found))


def _try(env_id: str, folder: str) -> None:
    """Try one id in this process, which writes to files of `folder`."""
    os.setsid()
    said = os.open(f"{folder}/{SAID}", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    found = tried(env_id)
    Path(folder, RESULT).write_text(json.dumps(found))
    os._exit(0)  # some simulators crash when they are freed


def tried(env_id: str) -> dict[str, Any]:
    """Return what is seen of one id in this process."""
    from ppolab.config.schema import EnvConfig
    from ppolab.envs.factory import check_environment
    from ppolab.errors import PpolabError

    found: dict[str, Any] = {}
    env = EnvConfig(id=env_id, backend="envpool", num_threads=2)
    try:
        check_environment(env)
        found = looked_at(env)
        train(env)
    except PpolabError as error:
        return {**found, "reason": " ".join(str(error).replace(sys.prefix, "…").split())}
    return found


def looked_at(env: Any) -> dict[str, Any]:
    """Return spaces, limit and speed of an environment."""
    import numpy as np

    from ppolab.envs.choices import with_choices
    from ppolab.envs.factory import make_vector_env

    with contextlib.closing(make_vector_env(env, list(range(ENVS)), "envpool")) as made:
        space = made.action_space
        space.seed(0)
        made.reset()
        pools = [group._envs for _, group in made.groups]  # type: ignore[attr-defined]
        actions = [np.array([space.sample() for _ in range(group.num_envs)]) for _, group in made.groups]
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < TIMED_SECONDS:
            for pool, chosen in zip(pools, actions, strict=True):
                pool.send(chosen)
            for pool in pools:
                pool.recv()
            steps += ENVS
        seconds = time.perf_counter() - started
        return {
            "observation": described(made.observation_space),
            "action": described(with_choices(space)),
            "limit": made.longest_episode,
            "steps_per_second": round(steps / seconds),
        }


def train(env: Any) -> None:
    """Train two iterations and evaluate one short episode."""
    from dataclasses import replace

    from hydra import compose, initialize_config_dir

    import ppolab.agents.evaluation as evaluation
    from ppolab.config.loading import from_hydra
    from ppolab.config.schema import register_schemas
    from ppolab.envs.factory import check_environment
    from ppolab.errors import PpolabError
    from ppolab.training.run import run

    evaluation.MAX_EPISODE_STEPS = EVALUATION_STEPS
    register_schemas()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        settings = [f"{key}={value}" for key, value in TRAINED.items()]
        node = compose("config", overrides=[*settings, f"env.id={env.id}", "logger.video=false", "progress=off"])
    config = from_hydra(node)
    limited = replace(env, kwargs={**env.kwargs, "max_episode_steps": LIMIT})
    with contextlib.suppress(PpolabError):  # the id has no limit that could be set
        check_environment(limited)
        env = limited
    with tempfile.TemporaryDirectory() as folder:
        result = run(replace(config, env=replace(config.env, backend=env.backend, kwargs=env.kwargs)), Path(folder))
    assert result is not None and "eval/return" in result.metrics


def described(space: Any) -> str:
    """Return a space in few words."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return "Dict of " + ", ".join(f"{key} {described(part)}" for key, part in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return "Tuple of " + ", ".join(map(described, space.spaces))
    if isinstance(space, spaces.Box):
        return f"{space.dtype} {'x'.join(map(str, space.shape)) or 'number'}"
    if isinstance(space, spaces.Discrete):
        return f"{space.n} choices"
    if isinstance(space, spaces.MultiDiscrete):
        return f"{'x'.join(map(str, space.nvec.reshape(-1)))} choices"
    return str(space)


if __name__ == "__main__":
    main()
