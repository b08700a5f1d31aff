"""Turn a rollout into flat samples with advantages and returns."""

from __future__ import annotations

import torch
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.gae import generalized_advantages
from ppolab.core.losses import explained_variance
from ppolab.learning.objective import ChosenRows, Samples
from ppolab.learning.rollout import Rollout
from ppolab.learning.stacked_images import StackedImages
from ppolab.runtime.process_group import ProcessGroup


class Experience:
    """The valid rows of a rollout, flat. Only advantages and returns depend on the value function's present state.

    `values` [T+1, N] are those of the collecting policy, in the unit of `rewards` [T, N].
    """

    def __init__(self, rollout: Rollout, rewards: Tensor, values: Tensor, config: Config) -> None:
        self._rollout = rollout
        self._rewards = rewards
        self._config = config
        self._rows = rollout.valid.view(-1).nonzero().squeeze(-1)
        self._observations = self._chosen_observations()
        self._actions = self._valid(rollout.actions)
        self._parameters = self._valid(rollout.parameters)
        self._log_probs = self._valid(rollout.log_probs)
        self._values = self._valid(values[:-1])
        self._weights = torch.ones_like(self._values)

    def samples(self, values: Tensor) -> Samples:
        """Return samples with advantages and returns under `values` [T+1, N] and the scaled rewards."""
        rollout, config = self._rollout, self._config
        advantages = generalized_advantages(
            self._rewards, values, rollout.terminated, rollout.truncated,
            gamma=config.gamma, gae_lambda=config.gae_lambda,
        )  # fmt: skip
        returns = self._valid(advantages + values[:-1])
        return Samples(
            self._observations, self._actions, self._parameters, self._log_probs, self._values,
            self._valid(advantages), returns, self._weights,
        )  # fmt: skip

    def _chosen_observations(self) -> Tensor | ChosenRows:
        """Return the valid rows of observations: images are not copied."""
        observations = self._rollout.observations[:-1]
        if isinstance(observations, StackedImages):
            return ChosenRows(observations, self._rows)
        if observations.dtype == torch.uint8:
            return ChosenRows(observations.flatten(0, 1), self._rows)
        return self._valid(observations)

    def _valid(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1).index_select(0, self._rows)


def shared_facts(rollout: Rollout, samples: Samples, group: ProcessGroup) -> tuple[Tensor, Tensor]:
    """Return (the process that has each sample [B of all], explained variance over all)."""
    mine = (rollout.valid.cpu(), samples.values.cpu(), samples.returns.cpu())
    valid, values, returns = zip(*group.all_gather(mine), strict=True)
    owners = torch.cat([torch.full(part.shape, rank) for rank, part in enumerate(valid)], dim=1)
    return owners[torch.cat(valid, dim=1)], explained_variance(torch.cat(values), torch.cat(returns))
