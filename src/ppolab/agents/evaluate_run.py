"""Evaluate a stored run, as `src/evaluate.py` does once its input is checked."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from ppolab.agents.agent import Agent
from ppolab.agents.evaluation import EvalResult
from ppolab.agents.trained_policy import load_policy
from ppolab.agents.video import RenderError, record_video
from ppolab.config.command_schema import EvaluateConfig
from ppolab.config.metrics import EVALUATED, EVALUATED_SAMPLED
from ppolab.envs.factory import evaluation_backend
from ppolab.errors import PpolabError
from ppolab.records.run_folder import OUTPUTS, FoundRun
from ppolab.records.tracking import add_evaluation, resolve_tracking_uri
from ppolab.records.wording import shown, shown_return

log = logging.getLogger(__name__)

FOLDER = "evaluations"
"""Below a run's folder, and among its artifacts: a folder for each evaluation."""


def evaluate_run(found: FoundRun, settings: EvaluateConfig) -> str:
    """Play episodes in Gymnasium's own environment, or in EnvPool's where it alone has the task; return the report.

    Results and video go to a new folder below the run's own. Mean, deviation and length of the episodes, and the file
    of results, go to the run in the tracking store; if that does not answer, a warning says so.
    """
    agent = Agent(load_policy(found))
    result = agent.evaluate(settings.episodes, settings.seed, settings.deterministic)
    folder = _new_folder(found, settings)
    file = folder / "result.json"
    record = {"returns": result.returns, "lengths": result.lengths, "mean": result.mean, "std": result.std}
    asked = {"checkpoint": found.checkpoint.stem, "seed": settings.seed, "deterministic": settings.deterministic}
    file.write_text(json.dumps(record | asked | {"steps": agent.steps}) + "\n")
    lines = _report(agent, result, settings)
    if settings.video:
        lines.append(_filmed(agent, settings, folder / "video.mp4"))
    lines.append(f"result        {file}")
    _add_to_store(agent, result, file, EVALUATED if settings.deterministic else EVALUATED_SAMPLED)
    return "\n".join(lines)


def _new_folder(found: FoundRun, settings: EvaluateConfig) -> Path:
    """Make a folder whose name says what was asked; with a number if there is one of that name."""
    mode = "" if settings.deterministic else "-sampled"
    name = f"{found.checkpoint.stem}-seed{settings.seed}-{settings.episodes}episodes{mode}"
    folder, number = found.folder.path / FOLDER / name, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{name}-{number}")


def _filmed(agent: Agent, settings: EvaluateConfig, path: Path) -> str:
    """Film an episode; return a line on it, or on why there is no film."""
    policy, env = agent.trained.policy, agent.config.env
    try:
        total = record_video(
            policy, env, settings.seed, path, native=agent.native, deterministic=settings.deterministic
        )
        return f"video         {path} (one episode, return {shown(total)})"
    except RenderError as error:
        return str(error)


def _add_to_store(agent: Agent, result: EvalResult, file: Path, group: str) -> None:
    """Log the evaluation to the run in its tracking store, if it has one; only warn if that does not work.

    Args:
        group: the first part of the metrics' names.
    """
    stored, run_id = agent.trained.run.folder.tracking_uri(), agent.run_id
    if run_id is None or stored is None:
        return
    metrics = {
        f"{group}/return": result.mean,
        f"{group}/return_std": result.std,
        f"{group}/length": float(np.mean(result.lengths)),
    }
    try:
        uri = resolve_tracking_uri(stored, OUTPUTS)  # where it has a password, MLFLOW_TRACKING_URI stands in for it
        add_evaluation(uri, run_id, metrics, agent.steps, {file: f"{FOLDER}/{file.parent.name}"})
    except PpolabError as error:
        log.warning("the evaluation is in %s, but not in MLflow: %s", file, error)


def _report(agent: Agent, result: EvalResult, settings: EvaluateConfig) -> list[str]:
    kind = "deterministic episodes" if settings.deterministic else "episodes of sampled actions"
    returns = " ".join(shown(value) for value in result.returns)
    env, checkpoint = agent.config.env, agent.trained.run.checkpoint
    return [
        f"{env.id} on {evaluation_backend(env)}, {checkpoint} after {agent.steps:,} steps",
        f"return        {shown_return(result.mean, result.std)} over {len(result.returns)} {kind}",
        f"each return   {returns}",
    ]
