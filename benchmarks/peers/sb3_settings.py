"""How Stable-Baselines3's PPO is run to a return: as it comes, and as its own project tuned it.

`zoo` is hyperparams/ppo.yml of DLR-RM/rl-baselines3-zoo at commit 22e3ff2450fd (April 2026), sections Hopper-v4,
HalfCheetah-v4 and CartPole-v1. The zoo has none for the v5 tasks; those of v4 are used. `lin` falls linearly to 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Settings:
    """Arguments of PPO, and what its environments are wrapped in."""

    arguments: dict[str, Any] = field(default_factory=dict)
    num_envs: int = 1
    normalize: bool = False


@dataclass(frozen=True)
class Lin:
    """A schedule: `initial`, times what remains of the training."""

    initial: float

    def __call__(self, remaining: float) -> float:
        """The value when a share `remaining` of the steps is left."""
        return self.initial * remaining


DEFAULT = Settings()

ZOO_NETWORK = {
    "log_std_init": -2,
    "ortho_init": False,
    "activation_fn": torch.nn.ReLU,
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}

ZOO = {
    "Hopper-v5": Settings(
        {
            "n_steps": 512, "batch_size": 32, "n_epochs": 5, "gamma": 0.999, "gae_lambda": 0.99, "clip_range": 0.2,
            "learning_rate": 9.80828e-05, "ent_coef": 0.00229519, "vf_coef": 0.835671, "max_grad_norm": 0.7,
            "policy_kwargs": ZOO_NETWORK,
        },
        normalize=True,
    ),
    "HalfCheetah-v5": Settings(
        {
            "n_steps": 512, "batch_size": 64, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.92, "clip_range": 0.1,
            "learning_rate": 2.0633e-05, "ent_coef": 0.000401762, "vf_coef": 0.58096, "max_grad_norm": 0.8,
            "policy_kwargs": ZOO_NETWORK,
        },
        normalize=True,
    ),
    "CartPole-v1": Settings(
        {
            "n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8, "ent_coef": 0.0,
            "learning_rate": Lin(0.001), "clip_range": Lin(0.2),
        },
        num_envs=8,
    ),
}  # fmt: skip


def settings_of(name: str, env_id: str) -> Settings:
    """`default` or `zoo`, for an environment.

    Raises:
        SystemExit: the zoo has no settings for it here.
    """
    if name == "default":
        return DEFAULT
    if env_id not in ZOO:
        raise SystemExit(f"{env_id}: no tuned settings here; there are some for {', '.join(ZOO)}")
    return ZOO[env_id]
