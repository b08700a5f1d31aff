"""Turn a rollout into flat samples with advantages and returns."""

from __future__ import annotations

import torch
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.gae import generalized_advantages
from ppolab.core.losses import explained_variance
from ppolab.learning.native.policy import NativePolicy, Outcomes
from ppolab.learning.objective import ChosenRows, Samples
from ppolab.learning.rollout import Rollout
from ppolab.learning.sequences import sequences_of
from ppolab.learning.stacked_images import StackedImages
from ppolab.runtime.process_group import ProcessGroup


class Experience:
    """The valid rows of a rollout, flat; with memory its sequences, as `Samples` says.

    Only advantages and returns depend on the value function's present state.

    `values` [T+1, N] are those of the collecting policy, in the unit of `rewards` [T, N].
    """

    def __init__(self, rollout: Rollout, rewards: Tensor, values: Tensor, config: Config) -> None:
        self._rollout = rollout
        self._rewards = rewards
        self._config = config
        self._sequences = sequences_of(rollout.valid, config.sequence_length) if rollout.memories else None
        if self._sequences is None:
            self._rows = rollout.valid.view(-1).nonzero().squeeze(-1)
        else:
            self._rows = self._sequences.rows.reshape(-1)
        self._observations = self._chosen_observations()
        self._actions = self._chosen(rollout.actions)
        self._parameters = self._chosen(rollout.parameters)
        self._log_probs = self._chosen(rollout.log_probs)
        self._values = self._chosen(values[:-1])
        self._weights = torch.ones_like(self._values)
        self._states: Tensor | None = None
        self._starts: Tensor | None = None
        if rollout.memories is not None and self._sequences is not None:
            self._weights *= self._sequences.real.reshape(-1)
            states = rollout.memories.states.transpose(0, 1).flatten(1, 2)  # [K, C * N, H]
            self._states = states.index_select(1, self._sequences.places)
            self._starts = self._chosen(rollout.memories.starts[:-1])

    def samples(self, values: Tensor) -> Samples:
        """Return samples with advantages and returns under `values` [T+1, N] and the scaled rewards."""
        rollout, config = self._rollout, self._config
        advantages = generalized_advantages(
            self._rewards, values, rollout.terminated, rollout.truncated,
            gamma=config.gamma, gae_lambda=config.gae_lambda,
        )  # fmt: skip
        return self._with(self._chosen(advantages), self._chosen(advantages + values[:-1]))

    def samples_by(self, native: NativePolicy, values: Tensor | None) -> Samples:
        """Return the same in one call of C++; without `values` under those that `native` gives now. Not with memory."""
        rollout, config = self._rollout, self._config
        assert isinstance(rollout.observations, Tensor)
        outcomes = Outcomes(
            self._rewards, rollout.terminated, rollout.truncated, config.gamma, config.gae_lambda, self._rows
        )
        return self._with(*native.advantages(outcomes, values=values, observations=rollout.observations))

    def _with(self, advantages: Tensor, returns: Tensor) -> Samples:
        return Samples(
            self._observations, self._actions, self._parameters, self._log_probs, self._values,
            advantages, returns, self._weights, states=self._states, starts=self._starts,
        )  # fmt: skip

    def _chosen_observations(self) -> Tensor | ChosenRows:
        """Return the chosen rows of observations: images are not copied."""
        observations = self._rollout.observations[:-1]
        if isinstance(observations, StackedImages):
            return ChosenRows(observations, self._rows)
        if observations.dtype == torch.uint8:
            return ChosenRows(observations.flatten(0, 1), self._rows)
        return self._chosen(observations)

    def _chosen(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1).index_select(0, self._rows)


def shared_facts(rollout: Rollout, samples: Samples, config: Config, group: ProcessGroup) -> tuple[Tensor, Tensor]:
    """Return (the process that has each sample [B of all], explained variance over all).

    With memory the former is [L, S of all], -1 where a row of a sequence is no experience.
    """
    mine = (
        rollout.valid.cpu(), samples.experienced(samples.values).cpu(), samples.experienced(samples.returns).cpu(),
    )  # fmt: skip
    valid, values, returns = zip(*group.all_gather(mine), strict=True)
    all_valid = torch.cat(valid, dim=1)
    owners = torch.cat([torch.full(part.shape, rank) for rank, part in enumerate(valid)], dim=1)
    variance = explained_variance(torch.cat(values), torch.cat(returns))
    if rollout.memories is None:
        return owners[all_valid], variance
    sequences = sequences_of(all_valid, config.sequence_length)
    return torch.where(sequences.real, owners.view(-1)[sequences.rows], -1), variance
