"""The value function by itself, for algorithms that give it epochs of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ppolab.family import reads
from ppolab.native import native_policy
from ppolab.objective import LossTerms, Samples, clipped
from ppolab.update import Learner, Parts, actor_of


class ValueFunction:
    """`epochs` passes of the value function alone over a batch.

    They are PPO's epochs, in C++ where that can be had, with advantages of 0, so that nothing pulls at the policy.
    `optimizer` is for them alone, where the one of `parts` also steps the policy, whose count of steps would go on
    without it. It follows the other's learning rate.
    """

    def __init__(self, parts: Parts, epochs: int, optimizer: torch.optim.Optimizer | None = None) -> None:
        config = parts.config
        value_coef = config.value_coef if reads(config.algorithm, "value_coef") else 1.0
        config = replace(
            config, algorithm={**config.algorithm, "anneal_clip": False}, epochs=epochs, value_coef=value_coef,
            entropy_coef=0.0, normalize_advantages=False, normalize_values=False, target_kl=None,
        )  # fmt: skip
        native = None if parts.native is None else native_policy(parts.policy, parts.flat, config)
        own = replace(parts, config=config, native=native, optimizer=optimizer or parts.optimizer)
        self._learner = Learner(own, clipped(config.clip), in_native=True)
        self._policy, self._actor, self._epochs = parts.policy, actor_of(parts), epochs
        self._leader, self._own = parts.optimizer, optimizer

    def fit(self, samples: Samples, owners: Tensor) -> float:
        """Returns the mean squared error, halved, over all steps."""
        if self._own is not None:
            self._own.param_groups[0]["lr"] = self._leader.param_groups[0]["lr"]
        self._policy.train()
        before = self._actor.read()
        blank = samples._replace(advantages=torch.zeros_like(samples.advantages))
        terms = torch.cat([self._learner.one_epoch(blank, owners).terms for _ in range(self._epochs)])
        self._actor.write(before)  # weight decay moves parameters without any gradient
        return float(LossTerms(*terms.mean(0).tolist()).value)

    def state(self) -> dict[str, Any]:
        """That of the optimizer for it alone, if there is one."""
        return {} if self._own is None else {"value_optimizer": self._own.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        if self._own is not None:
            self._own.load_state_dict(state["value_optimizer"])
