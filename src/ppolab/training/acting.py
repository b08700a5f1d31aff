"""Act for environments: with nothing kept, with all answers kept, and with memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.core.masks import masked_logits
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
        self._states = [state[:, rows] for rows in turns]
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
        seen = torch.from_numpy(scaling(raw))
        if observations is not None:
            seen = observations.copy_(seen)
        t, turn = divmod(len(self._answers), len(self._turns))
        state = self._before(t, turn)
        if t % self._length == 0:
            self.kept[t // self._length, :, self._turns[turn]] = state
        parameters, values, state = self._policy.remembering(seen, state)
        self._states[turn] = state
        self._answers.append((parameters, values))
        actions[:] = drawn(self._policy, parameters, noise, masks)

    def answers(self, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (distribution parameters [T+1, N, P], values [T+1, N], the state [K, N, H] before `last` [N, W])."""
        groups = len(self._turns)
        state = torch.cat([self._before(len(self._valid), turn) for turn in range(groups)], dim=1)
        parameters, values, _ = self._policy.remembering(last, state)
        turns = [self._answers[first : first + groups] for first in range(0, len(self._answers), groups)]
        joined = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in turns]
        all_parameters, all_values = zip(*joined, (parameters, values), strict=True)
        return torch.stack(all_parameters), torch.stack(all_values), state

    def _before(self, t: int, turn: int) -> Tensor:
        """Return the state of a group before its observations at time t."""
        state = self._states[turn]
        if t == 0:
            return state
        return state * torch.from_numpy(self._valid[t - 1, self._turns[turn], None]).to(state)
