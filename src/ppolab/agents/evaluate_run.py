"""Evaluate a stored run, as `src/evaluate.py` does once its input is checked."""

from __future__ import annotations

import json

from ppolab.agents.evaluation import EvalResult, evaluate_policy
from ppolab.agents.policy import policy_from
from ppolab.agents.video import RenderError, record_video
from ppolab.config.schema import Config, EvaluateConfig
from ppolab.envs.factory import EVALUATION, environment_seeds, make_vector_env
from ppolab.envs.seeding import private_generators
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import FoundRun
from ppolab.records.wording import shown, shown_return


def evaluate_run(config: Config, found: FoundRun, settings: EvaluateConfig) -> str:
    """Play episodes in Gymnasium's own environment, store results and video in the run's folder, return the report."""
    checkpoint = load_checkpoint(found.checkpoint)
    seeds = environment_seeds(settings.seed, 0, settings.episodes, EVALUATION)
    with private_generators(seeds[0]):
        env = make_vector_env(config.env, seeds, "gymnasium")
        policy = policy_from(checkpoint, config, env.observation_space, env.action_space)
        result = evaluate_policy(policy, env)
        env.close()
    folder = found.folder.path / "evaluations" / f"{found.checkpoint.stem}-seed{settings.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"returns": result.returns, "lengths": result.lengths, "mean": result.mean, "std": result.std}
    (folder / "result.json").write_text(json.dumps(record) + "\n")
    lines = _report(config, found, checkpoint.module["steps"], result)
    if settings.video:
        try:
            with private_generators(settings.seed):
                total = record_video(policy, config.env, settings.seed, folder / "video.mp4")
            lines.append(f"video         {folder / 'video.mp4'} (one episode, return {shown(total)})")
        except RenderError as error:
            lines.append(str(error))
    lines.append(f"result        {folder / 'result.json'}")
    return "\n".join(lines)


def _report(config: Config, found: FoundRun, steps: int, result: EvalResult) -> list[str]:
    returns = " ".join(shown(value) for value in result.returns)
    return [
        f"{config.env.id} on gymnasium, {found.checkpoint} after {steps:,} steps",
        f"return        {shown_return(result.mean, result.std)} over {len(result.returns)} deterministic episodes",
        f"each return   {returns}",
    ]
