"""Choose a policy's actions for observations as its environment gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.masks import masked_logits
from ppolab.learning.actor import Actor, Answer
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
        if native is not None:
            native.prepare()

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
            answer = self._answer(count) if self._policy.has_memory else None
            raw = np.ascontiguousarray(observations)
            self._native.act(raw, self._scaling, noise, inputs, actions, allowed, answer)
            if answer is not None:
                self.state = answer.state
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

    def _answer(self, count: int) -> Answer:
        """Return what a step in C++ fills, with a copy of the present state."""
        state = self._present_state(count).clone(memory_format=torch.contiguous_format)
        return Answer(state, torch.empty((count, self._policy.action_head.out_features)))

    def _parameters(self, inputs: Tensor) -> Tensor:
        if not self._policy.has_memory:
            return self._policy.action_parameters(inputs)
        parameters, self.state = self._policy.act_remembering(inputs, self._present_state(len(inputs)))
        return parameters

    def _present_state(self, count: int) -> Tensor:
        return self._policy.no_memories(count, actor_alone=True) if self.state is None else self.state
