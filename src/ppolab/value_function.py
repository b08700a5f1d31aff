"""The value function by itself, for algorithms that give it epochs of its own."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ppolab.native import native_policy
from ppolab.objective import LossTerms, Samples, clipped
from ppolab.update import Learner, Parts, actor_of


class ValueFunction:
    """`epochs` passes of the value function alone over a batch, with the optimizer of `parts`.

    They are PPO's epochs, in C++ where that can be had, with advantages of 0, so that nothing pulls at the policy.
    """

    def __init__(self, parts: Parts, epochs: int) -> None:
        algorithm = {**parts.config.algorithm, "value_clip": None, "anneal_clip": False}
        config = replace(
            parts.config, algorithm=algorithm, epochs=epochs, value_coef=1.0, entropy_coef=0.0,
            normalize_advantages=False, normalize_values=False,
        )  # fmt: skip
        native = None if parts.native is None else native_policy(parts.policy, parts.flat, config)
        self._learner = Learner(
            replace(parts, config=config, native=native),
            clipped(config.clip),
            in_native=True,
        )
        self._policy, self._actor = parts.policy, actor_of(parts)
        self._optimizer, self._epochs = parts.optimizer, epochs

    def fit(self, samples: Samples, owners: Tensor) -> float:
        """Returns the mean squared error, halved, over all steps."""
        self._policy.train()
        before = self._of_the_actor()
        blank = samples._replace(advantages=torch.zeros_like(samples.advantages))
        terms = torch.cat([self._learner.one_epoch(blank, owners)[0] for _ in range(self._epochs)])
        for tensor, kept in zip(self._tensors(), before, strict=False):  # moved by weight decay, and momenta faded
            tensor[self._actor.places] = kept
        return float(LossTerms(*terms.mean(0).tolist()).value)

    def _of_the_actor(self) -> list[Tensor]:
        return [tensor[self._actor.places] for tensor in self._tensors()]

    def _tensors(self) -> list[Tensor]:
        """The parameters, then what the optimizer keeps for each of them, once it has made a step."""
        vector = self._actor.flat.vector
        kept = self._optimizer.state.get(vector, {}).values()
        return [vector.data, *(part for part in kept if isinstance(part, Tensor) and part.shape == vector.shape)]
