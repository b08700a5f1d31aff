"""Say whether several seeds of one setting can be trained at once."""

from __future__ import annotations

from ppolab.config.schema import Config

ALGORITHMS = ("ppo_clip", "ppo_penalty", "unclipped", "a2c")
"""The shipped ones that make epochs of minibatches on policy and value function together."""
ADAM = ("torch.optim.Adam", "torch.optim.AdamW")


def trains_together(config: Config) -> bool:
    """Return whether the seeds of a trial with these settings are trained at once."""
    return config.env.backend == "warp" and problem_of_members(config) is None


def note_on_members(config: Config, seeds: int, pruner: str) -> str | None:
    """Return the line that says how the seeds of a study's trials are trained; None where nobody expects them at once.

    Args:
        config: what all trials share. seeds: of a trial.
    """
    if config.env.backend != "warp" or seeds == 1:
        return None
    problem = problem_of_members(config) if pruner == "none" else f"pruner={pruner} looks at each finished seed"
    if problem is not None:
        return f"seeds         one after another, since {problem}"
    return f"seeds         {seeds} of a trial at once, as one batch of {seeds * config.num_envs:,} worlds"


def problem_of_members(config: Config) -> str | None:
    """Return why the seeds of a trial are trained one after another, in words that follow "since"; None: they need not.

    It is asked of `env.backend=warp` only, without which nothing could be done at once.
    """
    model, optimizer = config.model, config.optimizer
    reasons = {
        "env.frame_stack keeps frames on the processor": config.env.frame_stack is not None,
        f"model.memory={model.memory} is trained on sequences": model.memory != "none",
        "there is a network of your own": model.is_own,
        "model.dropout draws random numbers for all seeds together": model.dropout > 0,
        f"algorithm={config.algorithm['name']} makes other steps": config.algorithm["name"] not in ALGORITHMS,
        f"the steps of {optimizer['_target_']} are not known": not _is_adam(optimizer),
        "callbacks of your own see one run": bool(config.callbacks),
        "init_from begins with another run": config.init_from is not None,
        "a run has several processes": config.world_size > 1,
        "trainer.precision=bf16 was not tried": config.trainer.precision == "bf16",
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _is_adam(optimizer: dict[str, object]) -> bool:
    return optimizer["_target_"] in ADAM and bool(optimizer.get("fused")) and not optimizer.get("amsgrad")
