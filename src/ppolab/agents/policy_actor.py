"""Choose a policy's actions for observations as its environment gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppolab.core.masks import masked_logits
from ppolab.learning.actor import Actor
from ppolab.learning.actor_critic import ActorCritic


class PolicyActor:
    """Choose actions with a policy's normaliser as it stands; call it while the policy is in evaluation mode.

    Args:
        native: computes `policy` faster.
    """

    def __init__(self, policy: ActorCritic, native: Actor | None = None) -> None:
        self._policy = policy
        self._native = native
        self._distribution = policy.distribution
        self._scaling = policy.scaling
        self._device = policy.value_head.weight.device

    def __call__(
        self,
        observations: NDArray[Any],
        generator: torch.Generator | None = None,
        masks: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """Return policy actions [N, ...] for raw rows [N, W].

        Args:
            generator: draws the actions, on the CPU; without one they are the most probable ones.
            masks: [N, A], the allowed actions; None where all are.
        """
        count = len(observations)
        allowed = None if masks is None else torch.from_numpy(np.ascontiguousarray(masks))
        noise = None if generator is None else self._distribution.noise((count,), generator)
        if self._native is not None:
            inputs = torch.empty(observations.shape)
            actions = torch.empty((count, *self._distribution.action_shape), dtype=self._distribution.action_dtype)
            self._native.act(np.ascontiguousarray(observations), self._scaling, noise, inputs, actions, allowed)
            return actions.numpy()
        with torch.no_grad():
            inputs = torch.from_numpy(self._scaling(observations)).to(self._device)
            parameters = self._policy.action_parameters(inputs)
            if allowed is not None:
                parameters = masked_logits(parameters, allowed.to(self._device))
            if noise is None:
                return self._distribution.mode(parameters).cpu().numpy()
            return self._distribution.sample(parameters, noise.to(self._device)).cpu().numpy()
