"""The callbacks in docs/examples, used as docs/extending.md says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from commands import ROOT, metric_rows, train
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import RunFolder

EXAMPLES = ("curriculum", "early_stop", "log_to_wandb")
RUN = ("env=cartpole", "logger=none", "logger.video=false", "hydra.run.dir=run")
WANDB = """
import json
from types import SimpleNamespace


def told(**what):
    with open("wandb.jsonl", "a") as file:
        print(json.dumps(what), file=file)


def init(**settings):
    told(init={**settings, "config": settings["config"]["env"]["id"]})
    return SimpleNamespace(id="abc")


def log(metrics, step):
    told(log=sorted(metrics), step=step)


def finish(exit_code=0):
    told(finish=exit_code)
"""
"""What the example calls of the package, written to a file; the package is no part of the tests' environment."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name in EXAMPLES:
        shutil.copy(ROOT / f"docs/examples/{name}.py", tmp_path)
    (tmp_path / "wandb.py").write_text(WANDB)
    return tmp_path


def state_of(run: Path) -> dict[str, object]:
    return load_checkpoint(run / "checkpoints/last.ckpt").module


def test_episodes_grow_and_a_resumed_run_goes_on_with_those_it_had(workspace: Path) -> None:
    own = ("callbacks=[curriculum:LongerEpisodes]", "anneal_lr=false")
    assert train(workspace, *RUN, *own, "total_steps=14000").code == 0
    state = state_of(workspace / "run")
    assert state["callbacks"] == {"LongerEpisodes": {"limit": 200}}
    assert state["env_kwargs"] == {"max_episode_steps": 200}
    log = (workspace / "run/train.log").read_text()
    assert [f"'max_episode_steps': {limit}}} after" in log for limit in (50, 100, 200, 400)] == [True] * 3 + [False]
    assert max(float(row["eval/length"]) for row in metric_rows(workspace / "run") if row["eval/length"]) > 200

    resumed = train(workspace, "resume=run", "total_steps=16000")
    assert resumed.code == 0 and "env.kwargs of training" not in resumed.err, "nothing was made anew"
    whole = train(workspace, *RUN[:-1], "hydra.run.dir=whole", *own, "total_steps=16000")
    assert whole.code == 0
    for key in ("train/return", "loss/value", "policy/kl"):
        assert [row[key] for row in metric_rows(workspace / "run") if row[key]] == [
            row[key] for row in metric_rows(workspace / "whole") if row[key]
        ]


def test_a_run_ends_once_it_is_good_enough_and_is_logged_elsewhere(workspace: Path) -> None:
    callbacks = "callbacks=[early_stop:StopAtReturn,log_to_wandb:LogToWandb]"
    answer = train(workspace, *RUN, callbacks, "total_steps=60000", "eval_interval=4000")
    assert answer.code == 0, answer.err
    rows = metric_rows(workspace / "run")
    evaluations = {int(row["step"]): float(row["eval/return"]) for row in rows if row["eval/return"]}
    *_, before, last = evaluations
    assert evaluations[before] >= 475 and last < 60000 and f"good enough after {last:,} steps" in answer.out
    assert RunFolder(workspace / "run").is_finished

    told = [json.loads(line) for line in (workspace / "wandb.jsonl").read_text().splitlines()]
    assert told[0]["init"] == {"project": "ppolab", "id": None, "resume": "allow", "config": "CartPole-v1"}
    logged = [entry["step"] for entry in told[1:-1] if "loss/value" in entry["log"]]
    assert logged == [int(row["step"]) for row in rows if row["loss/value"]]
    assert sum("eval/return" in entry["log"] for entry in told[1:-1]) == len(evaluations)
    assert told[-2]["step"] == last and "eval/return" in told[-2]["log"] and told[-1] == {"finish": 0}

    more = train(workspace, "resume=run", "callbacks=[]")
    assert more.code == 0 and int(metric_rows(workspace / "run")[-1]["step"]) >= 60000
