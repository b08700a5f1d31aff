"""Describe a run to people who come upon its page: what was trained, with what result, and what to do with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ppolab.config.recorded import changed_settings
from ppolab.config.schema import Config
from ppolab.errors import spelled
from ppolab.records.tracking import RunStatus
from ppolab.records.wording import next_command, shown, shown_return

HOW_IT_ENDED: Mapping[RunStatus, str] = {
    "FINISHED": "Finished",
    "PRUNED": "Stopped early, since other trials of the study did better,",
    "KILLED": "Interrupted",
    "FAILED": "Failed",
}


def run_note(
    config: Config, folder: Path, status: RunStatus | None, steps: int, metrics: Mapping[str, float], best: float
) -> str:
    """Return the description in Markdown.

    Args:
        status: None while the run goes on. steps: environment steps so far. metrics: the last values.
        best: the highest eval/return, -inf before the first evaluation.
    """
    if status is None:
        ended = "It goes on as long as its status says so. Killed without a word, it goes on with:"
    else:
        ended = f"{HOW_IT_ENDED[status]} after {steps:,} steps.{_result(metrics, best)}"
    return "\n\n".join([_what(config), ended, _commands(config, folder, status)]) + "\n"


def _what(config: Config) -> str:
    """Return one line on what is trained."""
    what = f"**{config.env.id}** with {config.algorithm['name']}, {config.total_steps:,} steps, seed {config.seed}."
    changed = " ".join(f"`{key}={spelled(value)}`" for key, value in changed_settings(config).items())
    return f"{what} " + (f"Not the defaults: {changed}" if changed else "All settings are the defaults.")


def _result(metrics: Mapping[str, float], best: float) -> str:
    told = ""
    if "eval/return" in metrics:
        told += f" Eval return **{shown_return(metrics['eval/return'], metrics.get('eval/return_std', 0.0))}**"
        told += f" (best {shown(best)})." if math.isfinite(best) else "."
    if math.isfinite(metrics.get("train/return", math.nan)):
        told += f" Train return {shown(metrics['train/return'])}."
    return told


def _commands(config: Config, folder: Path, status: RunStatus | None) -> str:
    """Return a list of what to type next, in the form of the command that was typed.

    Not a block of code: MLflow breaks no line of one, and its page would be as wide as the longest.
    """
    resume = next_command("train", "resume", folder)
    rows = {
        "evaluate": next_command("evaluate", "run", folder),
        "export": f"{next_command('export', 'run', folder)} format=onnx",
        "in Python": f'agent = ppolab.load("{folder}")',
    }
    if status is None:
        rows = {"go on": resume}
    elif status == "FINISHED":
        rows["train longer"] = f"{resume} total_steps={2 * config.total_steps}"
    elif status != "PRUNED":
        rows = {"go on": resume, **rows}
    return "\n".join(f"- {what}: `{command}`" for what, command in rows.items())
