"""What `src/evaluate.py` does once its input is checked."""

from __future__ import annotations

import json

from ppolab.checkpoint import load_checkpoint
from ppolab.config import Config, EvaluateConfig
from ppolab.envs import EVALUATION, environment_seeds, make_vector_env
from ppolab.evaluate import EvalResult, RenderError, evaluate_policy, policy_from, record_video
from ppolab.runs import FoundRun


def evaluate_run(config: Config, found: FoundRun, settings: EvaluateConfig) -> str:
    """Play the episodes in Gymnasium's own environment, store results and video in the run's folder; the report."""
    checkpoint = load_checkpoint(found.checkpoint)
    seeds = environment_seeds(settings.seed, 0, settings.episodes, EVALUATION)
    env = make_vector_env(config.env, seeds, "gymnasium")
    policy = policy_from(checkpoint, config, env)
    result = evaluate_policy(policy, env)
    env.close()
    folder = found.folder.path / "evaluations" / f"{found.checkpoint.stem}-seed{settings.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"returns": result.returns, "lengths": result.lengths, "mean": result.mean, "std": result.std}
    (folder / "result.json").write_text(json.dumps(record) + "\n")
    lines = _report(config, found, checkpoint.module["steps"], result)
    if settings.video:
        try:
            total = record_video(policy, config.env, settings.seed, folder / "video.mp4")
            lines.append(f"video         {folder / 'video.mp4'} (one episode, return {total:,.1f})")
        except RenderError as error:
            lines.append(str(error))
    lines.append(f"result        {folder / 'result.json'}")
    return "\n".join(lines)


def _report(config: Config, found: FoundRun, steps: int, result: EvalResult) -> list[str]:
    returns = " ".join(f"{value:.1f}" for value in result.returns)
    return [
        f"{config.env.id} on gymnasium, {found.checkpoint} after {steps:,} steps",
        f"return        {result.mean:,.1f} ± {result.std:,.1f} over {len(result.returns)} deterministic episodes",
        f"each return   {returns}",
    ]
