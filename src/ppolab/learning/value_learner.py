"""Train the value function by itself, for algorithms that give it epochs of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppolab.learning.actor_critic import training
from ppolab.learning.epoch import shuffled
from ppolab.learning.interface import LearnerContext, actor_parameters
from ppolab.learning.objective import LossTerms, Samples, value_objective
from ppolab.learning.optimizer import learning_rate, set_learning_rate
from ppolab.learning.update_path import make_epoch, update_path


class ValueRegression:
    """Fit the value function to returns, in `epochs` passes of minibatches over a batch.

    `own_optimizer` is needed where the context's optimizer also steps the policy: Adam's count of steps would go on
    without the policy, whose later steps would become too large. It follows the learning rate of the other one.
    """

    def __init__(
        self,
        context: LearnerContext,
        epochs: int,
        *,
        value_coef: float = 1.0,
        own_optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        objective = value_objective(value_coef, context.config.algorithm.get("value_clip"))
        optimizer = own_optimizer or context.optimizer
        self._context = context
        self._actor = actor_parameters(context)
        self._epochs = epochs
        self._own_optimizer = own_optimizer
        self._run_epoch = make_epoch(context, objective, optimizer)
        self.path = update_path(context, objective, optimizer)

    def fit(self, samples: Samples, owners: Tensor) -> float:
        """Change the value function's parameters, and return its squared error, halved: the mean over all steps.

        Args:
            samples: this process's.
            owners: [B of all] the process that has each sample.
        """
        context = self._context
        if self._own_optimizer is not None:
            set_learning_rate(self._own_optimizer, learning_rate(context.optimizer))
        before = self._actor.read()
        terms = []
        with training(context.policy):
            for _ in range(self._epochs):
                order = shuffled(owners, context.group.rank, context.config.minibatch_size, context.generator)
                terms.append(self._run_epoch(samples, order)[0])
        self._actor.write(before)  # weight decay moves parameters without any gradient
        return float(LossTerms(*torch.cat(terms).mean(0).tolist()).value)

    def state(self) -> dict[str, Any]:
        """Return the state of the optimizer for it alone, if there is one."""
        return {} if self._own_optimizer is None else {"value_optimizer": self._own_optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        if self._own_optimizer is not None:
            self._own_optimizer.load_state_dict(state["value_optimizer"])
