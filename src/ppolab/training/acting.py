"""Act for environments: with nothing kept, with all answers kept, and with memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.masks import masked_logits
from ppolab.learning.actor import Actor, Answer
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.normalization import FrozenScaling


def act(
    policy: ActorCritic,
    raw: NDArray[Any],
    scaling: FrozenScaling,
    noise: Tensor,
    observations: Tensor,
    actions: Tensor,
    masks: Tensor | None = None,
) -> None:
    """Fill `observations` [N, W] with `raw` [N, W] scaled, and `actions` [N, ...] with those that `noise` draws.

    Args:
        masks: [N, A] bool, the allowed actions; None where all are.
    """
    observations[:] = torch.from_numpy(scaling(raw))
    actions[:] = drawn(policy, policy.action_parameters(observations), noise, masks)


def drawn(policy: ActorCritic, parameters: Tensor, noise: Tensor, masks: Tensor | None) -> Tensor:
    """Return the actions [N, ...] that `noise` draws of those that are allowed."""
    if masks is not None:
        parameters = masked_logits(parameters, masks.to(parameters.device))
    return policy.distribution.sample(parameters, noise)


class ActingOnce:
    """Act as `act` does, and keep all that the policy answers: convolutions are too slow to be computed again.

    Args:
        groups: of environments, which take turns.
    """

    def __init__(self, policy: ActorCritic, groups: int) -> None:
        self._policy = policy
        self._groups = groups
        self._answers: list[tuple[Tensor, Tensor]] = []

    def act(
        self,
        raw: NDArray[Any],
        scaling: FrozenScaling,
        noise: Tensor,
        observations: Tensor | None,
        actions: Tensor,
        masks: Tensor | None = None,
    ) -> None:
        """Fill `actions` and, where there are, `observations`, as `act` does."""
        seen = torch.from_numpy(scaling(raw))
        if observations is not None:
            seen = observations.copy_(seen)
        parameters, values = self._policy(seen)
        self._answers.append((parameters, values))
        actions[:] = drawn(self._policy, parameters, noise, masks)

    def answers(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return (distribution parameters [T+1, N, P], values [T+1, N]) of all rows so far and of `last` [N, W].

        The parameters are not masked.
        """
        turns = range(0, len(self._answers), self._groups)
        parts = [list(zip(*self._answers[first : first + self._groups], strict=True)) for first in turns]
        parameters, values = zip(*[map(torch.cat, each) for each in parts], self._policy(last), strict=True)
        return torch.stack(parameters), torch.stack(values)


class ActingWithMemory:
    """Act as `act` does, with a state for every environment, and keep all that the policy answers.

    Args:
        state: [K, N, H] before the first observations.
        turns: rows of each group of environments; the groups take turns.
        valid: [T, N] bool, filled as steps come in: a state is forgotten after a row that only resets.
        length: of the sequences at whose starts states are kept.

    Attributes:
        kept: [C, K, N, H] those states.
    """

    def __init__(
        self, policy: ActorCritic, state: Tensor, turns: Sequence[slice], valid: NDArray[np.bool_], length: int
    ) -> None:
        self._policy = policy
        self._turns = turns
        self._states = [state[:, rows].clone() for rows in turns]
        self._valid = valid
        self._length = length
        self._answers: list[tuple[Tensor, Tensor]] = []
        self.kept = state.new_empty((-(-len(valid) // length), *state.shape))

    def act(
        self,
        raw: NDArray[Any],
        scaling: FrozenScaling,
        noise: Tensor,
        observations: Tensor | None,
        actions: Tensor,
        masks: Tensor | None = None,
    ) -> None:
        """Fill `actions` and, where there are, `observations`, as `act` does, for the group whose turn it is."""
        t, turn = divmod(len(self._answers), len(self._turns))
        state = self._before(t, turn)
        if t % self._length == 0:
            self.kept[t // self._length, :, self._turns[turn]] = state
        outputs, values, self._states[turn] = self._step(state, raw, scaling, noise, observations, actions, masks)
        self._answers.append((outputs, values))

    def answers(self, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (distribution parameters [T+1, N, P], values [T+1, N], the state [K, N, H] before `last` [N, W])."""
        groups = len(self._turns)
        state = torch.cat([self._before(len(self._valid), turn) for turn in range(groups)], dim=1)
        last_parameters, last_values = self._answer_to(last, state)
        turns = [self._answers[first : first + groups] for first in range(0, len(self._answers), groups)]
        outputs, values = zip(*[tuple(map(torch.cat, zip(*parts, strict=True))) for parts in turns], strict=True)
        parameters = torch.cat((self._parameters_of(torch.stack(outputs)), last_parameters.unsqueeze(0)))
        return parameters, torch.stack((*values, last_values)), state

    def _step(
        self,
        state: Tensor,
        raw: NDArray[Any],
        scaling: FrozenScaling,
        noise: Tensor,
        observations: Tensor | None,
        actions: Tensor,
        masks: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fill actions and observations; return what `_parameters_of` takes, values, and the state after this step."""
        seen = torch.from_numpy(scaling(raw))
        if observations is not None:
            seen = observations.copy_(seen)
        parameters, values, after = self._policy.remembering(seen, state)
        actions[:] = drawn(self._policy, parameters, noise, masks)
        return parameters, values, after

    def _answer_to(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        parameters, values, _ = self._policy.remembering(observations, state)
        return parameters, values

    def _parameters_of(self, outputs: Tensor) -> Tensor:
        return outputs

    def _before(self, t: int, turn: int) -> Tensor:
        """Return the state of a group before its observations at time t."""
        state, valid = self._states[turn], self._valid[t - 1, self._turns[turn]]
        if t == 0 or valid.all():
            return state
        return state * torch.from_numpy(valid[:, None]).to(state)


@dataclass(frozen=True)
class LoopMemory:
    """What a collecting loop in C++ reads and fills for a policy with memory.

    Attributes:
        states: by group [K, n, H] before the first observations; then after the last ones that were acted on.
        kept: [C, K, N, H] before every `length`th observation.
        outputs: [T, N, A] of the action head. values: [T, N].
    """

    states: Sequence[Tensor]
    kept: Tensor
    length: int
    outputs: Tensor
    values: Tensor


class ActingWithMemoryInNative(ActingWithMemory):
    """Do the same with a policy in C++."""

    def __init__(
        self,
        policy: ActorCritic,
        native: Actor,
        state: Tensor,
        turns: Sequence[slice],
        valid: NDArray[np.bool_],
        length: int,
    ) -> None:
        super().__init__(policy, state, turns, valid, length)
        self._native = native
        self._outputs = policy.action_head.out_features
        native.prepare()

    def for_loop(self) -> LoopMemory:
        """Return what a loop in C++ fills, which then takes all steps in the place of `act`."""
        steps = self._valid.shape
        memory = LoopMemory(
            self._states, self.kept, self._length, torch.empty((*steps, self._outputs)), torch.empty(steps)
        )
        self._answers = [
            (outputs[rows], values[rows])
            for outputs, values in zip(memory.outputs, memory.values, strict=True)
            for rows in self._turns
        ]
        return memory

    def _step(
        self,
        state: Tensor,
        raw: NDArray[Any],
        scaling: FrozenScaling,
        noise: Tensor,
        observations: Tensor | None,
        actions: Tensor,
        masks: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert observations is not None, "images, which the C++ code does not know, are the rows that are not copied"
        count = len(actions)
        answer = Answer(state, torch.empty((count, self._outputs)), torch.empty(count))
        self._native.act(raw, scaling, noise, observations, actions, masks, answer)
        assert answer.values is not None
        return answer.outputs, answer.values, state

    def _answer_to(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self._native(observations, state)

    def _parameters_of(self, outputs: Tensor) -> Tensor:
        return self._native.parameters_of(outputs)
