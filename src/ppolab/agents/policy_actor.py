"""Choose a policy's actions for observations as its environment gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.masks import masked_logits
from ppolab.learning.actor import Actor
from ppolab.learning.actor_critic import ActorCritic


class PolicyActor:
    """Choose actions with a policy's normaliser as it stands; call it while the policy is in evaluation mode.

    With memory, every call goes on from the state that the last one left; `forget` where an episode begins.

    Attributes:
        state: [K, N, H] the actor's, after the last call; None: before the first one, or without memory.

    Args:
        native: computes `policy` faster.
    """

    def __init__(self, policy: ActorCritic, native: Actor | None = None) -> None:
        self._policy = policy
        self._native = native
        self._distribution = policy.distribution
        self._scaling = policy.scaling
        self._device = policy.value_head.weight.device
        self.state: Tensor | None = None

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
            parameters = self._parameters(inputs)
            if allowed is not None:
                parameters = masked_logits(parameters, allowed.to(self._device))
            if noise is None:
                return self._distribution.mode(parameters).cpu().numpy()
            return self._distribution.sample(parameters, noise.to(self._device)).cpu().numpy()

    def forget(self, which: NDArray[np.bool_] | None = None) -> None:
        """Begin new episodes where `which` [N]; None: everywhere, for any number of environments."""
        if which is None:
            self.state = None
        elif self.state is not None and which.any():
            self.state = self.state * torch.from_numpy(~which[:, None]).to(self.state)

    def _parameters(self, inputs: Tensor) -> Tensor:
        if not self._policy.has_memory:
            return self._policy.action_parameters(inputs)
        if self.state is None:
            self.state = self._policy.no_memories(len(inputs), actor_alone=True)
        parameters, self.state = self._policy.act_remembering(inputs, self.state)
        return parameters
