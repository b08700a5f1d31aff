"""What the values of settings must satisfy, and what a run measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ppolab.family import algorithm_names

METRICS = (
    "train/return", "train/length",
    "eval/return", "eval/return_std", "eval/length",
    "loss/policy", "loss/value",
    "policy/kl", "policy/clip_fraction", "policy/entropy", "policy/std", "policy/epochs",
    "value/explained_variance", "optim/lr", "optim/grad_norm",
    "time/steps_per_second", "time/rollout", "time/update", "time/total",
)  # fmt: skip
"""Every metric a run may log, and hence name as its objective, besides those that the file of its algorithm names."""


@dataclass(frozen=True)
class Rule:
    """What a number must satisfy, in code and in words."""

    holds: Callable[[float], bool]
    words: str


POSITIVE = Rule(lambda x: x > 0, "must be greater than 0")
NOT_NEGATIVE = Rule(lambda x: x >= 0, "must be 0 or more")
OPEN_UNIT = Rule(lambda x: 0 < x < 1, "must lie strictly between 0 and 1")
CLOSED_UNIT = Rule(lambda x: 0 <= x <= 1, "must lie between 0 and 1")
BELOW_ONE = Rule(lambda x: 0 <= x < 1, "must be at least 0 and less than 1")
WHOLE = Rule(lambda x: x >= 1 and float(x).is_integer(), "must be a whole number of 1 or more")

RULES: dict[str, Rule] = {
    "seed": Rule(lambda x: 0 <= x < 2**32, "must be 0 or more, and at most 4294967295"),
    "total_steps": POSITIVE,
    "num_envs": POSITIVE,
    "rollout_steps": Rule(lambda x: x >= 2, "must be 2 or more"),
    "epochs": POSITIVE,
    "minibatch_size": Rule(lambda x: x >= 2, "must be 2 or more"),
    "clip": OPEN_UNIT,
    "target_kl": POSITIVE,
    "gamma": CLOSED_UNIT,
    "gae_lambda": CLOSED_UNIT,
    "value_coef": NOT_NEGATIVE,
    "entropy_coef": NOT_NEGATIVE,
    "max_grad_norm": NOT_NEGATIVE,
    "eval_interval": NOT_NEGATIVE,
    "eval_episodes": POSITIVE,
    "checkpoint_interval": NOT_NEGATIVE,
    "keep_checkpoints": POSITIVE,
    "env.num_threads": NOT_NEGATIVE,
    "env.timeout": NOT_NEGATIVE,
    "model.dropout": BELOW_ONE,
    "model.initial_log_std": Rule(lambda x: -10 <= x <= 10, "must lie between -10 and 10"),
    "algorithm.value_clip": POSITIVE,
    "algorithm.d_targ": POSITIVE,
    "algorithm.beta": POSITIVE,
    "algorithm.value_epochs": WHOLE,
    "algorithm.max_kl": POSITIVE,
    "algorithm.damping": NOT_NEGATIVE,
    "algorithm.cg_steps": WHOLE,
    "algorithm.line_search_steps": WHOLE,
    "algorithm.backtrack": OPEN_UNIT,
    "trainer.threads": NOT_NEGATIVE,
    "trainer.devices": POSITIVE,
    "trainer.num_nodes": POSITIVE,
    "optimizer.lr": POSITIVE,
    "optimizer.eps": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.momentum": BELOW_ONE,
    "optimizer.alpha": BELOW_ONE,
}
CHOICES: dict[str, tuple[str, ...]] = {
    "compile": ("auto", "true", "false"),
    "env.backend": ("auto", "envpool", "gymnasium"),
    "env.vectorization": ("sync", "async"),
    "model.activation": ("tanh", "relu", "elu", "gelu", "silu"),
    "model.trunk": ("separate", "shared"),
    "algorithm.name": algorithm_names(),
    "trainer.accelerator": ("cpu", "gpu", "auto"),
    "logger.kind": ("mlflow", "none"),
}
