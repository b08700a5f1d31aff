"""Make the user's own network, `model.network=MODULE:NAME`, as a trunk of `ActorCritic`, and check its contract.

The contract: NAME(observation_size=D, **model.kwargs) returns an `nn.Module` that maps observations [N, D] to features
[N, F], row by row. docs/extending.md has it in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from ppolab.errors import ConfigError, NetworkError
from ppolab.runtime.user_code import named_object, what_was_raised

if TYPE_CHECKING:
    from ppolab.config.schema import ModelConfig

EXAMPLE = "model.network=my_package:MyNetwork"
ROWS = 5
"""Observations in a trial of a network."""


class OwnTrunk(nn.Module):
    """A network of the user's, as a trunk: observations [..., D] -> features [..., F].

    Attributes:
        setting: as it was typed; begins every message. width: F.
        unreached: names of parameters that the features do not depend on; no update changes them.
    """

    def __init__(self, setting: str, network: nn.Module, observation_size: int) -> None:
        """Check `network`.

        Raises:
            ConfigError: it does not keep the contract.
        """
        super().__init__()
        self.setting = setting
        self.network = network
        observations = torch.randn((ROWS, observation_size), generator=torch.Generator().manual_seed(0))
        network.eval()
        with torch.no_grad():  # lazy layers draw their weights now, as all others did when they were made
            self.width = self._trial(observations).shape[1]
        with torch.random.fork_rng(devices=[]):
            self._check_rows(observations)
            self._check_parameters()
            network.train()
            self._check_buffers(observations)
            self.unreached = self._unreached(observations)

    def forward(self, observations: Tensor) -> Tensor:
        rows = observations.reshape(-1, observations.shape[-1])
        try:
            features: Tensor = self.network(rows)
            return features.reshape(*observations.shape[:-1], self.width)
        except Exception as error:  # a user's module may raise anything
            told = f"forward of observations {list(rows.shape)} raised {what_was_raised(error)}"
            raise NetworkError(f"{self.setting}: {told}") from error

    def _problem(self, told: str) -> ConfigError:
        return ConfigError(f"{self.setting}: {told}")

    def _trial(self, observations: Tensor) -> Tensor:
        """Return the features of `observations` [N, D], which are then known to be [N, F] finite numbers."""
        count, size = observations.shape
        with self._raising(f"forward of observations [{count}, {size}]"):
            features = self.network(observations)
        rule = f"for observations [{count}, {size}] it must give features [{count}, F]"
        if not isinstance(features, Tensor):
            kind = type(features).__name__
            raise self._problem(f"forward gave a {kind}, not a tensor; {rule}, to which ppolab adds its heads")
        if features.dim() != 2 or features.shape[0] != count or features.shape[1] == 0:
            raise self._problem(f"forward gave the shape {list(features.shape)}; {rule}")
        if features.dtype != torch.float32:
            raise self._problem(f"forward gave numbers of type {features.dtype}; they must be torch.float32")
        if not features.isfinite().all():
            raise self._problem("forward gave features that are not finite, for observations that are")
        return features

    @torch.no_grad()
    def _check_rows(self, observations: Tensor) -> None:
        """The ratio of two policies needs an observation to have one answer, whatever stands beside it."""
        together, again = self._trial(observations), self._trial(observations)
        alone = torch.cat([self._trial(row) for row in torch.split(observations, 1)])
        if not together.equal(again):
            raise self._problem(
                "forward gave other features at a second call with the same observations, in evaluation mode; they "
                "must depend on observations and parameters alone"
            )
        if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
            raise self._problem(
                "the features of an observation depend on the others in its batch; every row must be computed by "
                "itself, as nn.LayerNorm does and normalisation over a batch does not"
            )

    def _check_parameters(self) -> None:
        for name, parameter in self.network.named_parameters():
            if parameter.dtype != torch.float32:
                raise self._problem(f"the parameter {name} is of type {parameter.dtype}; it must be torch.float32")
            if parameter.device.type != "cpu":
                raise self._problem(
                    f"the parameter {name} is on {parameter.device}; make the network on the CPU, ppolab moves it"
                )

    @torch.no_grad()
    def _check_buffers(self, observations: Tensor) -> None:
        """An update evaluates a network at parameters that it may roll back; running statistics would stay."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        self._trial(observations)
        for name, buffer in self.network.named_buffers():
            if name not in before or not torch.equal(buffer, before[name]):
                raise self._problem(
                    f"forward in training mode changes the buffer {name}, as nn.BatchNorm1d does; use layers without "
                    "running statistics, such as nn.LayerNorm: normalize_observations=true scales the inputs"
                )

    def _unreached(self, observations: Tensor) -> tuple[str, ...]:
        """Return the names of parameters without a gradient, after one was computed in the way that updates do it."""
        parameters = {name: each for name, each in self.network.named_parameters() if each.requires_grad}
        if not parameters:
            return ()

        def total(values: dict[str, Tensor]) -> Tensor:
            features: Tensor = functional_call(self.network, values, (observations,), tie_weights=False)
            return features.square().sum()

        features = self._trial(observations)
        if not features.requires_grad:
            raise self._problem(
                "no gradient reaches its parameters; forward must not compute features under torch.no_grad(), or "
                "detach them"
            )
        slopes = torch.autograd.grad(features.sum(), list(parameters.values()), allow_unused=True)
        with self._raising("differentiating forward by torch.func.grad"):
            grad(total)(dict(parameters))
        return tuple(name for name, slope in zip(parameters, slopes, strict=True) if slope is None)

    @contextmanager
    def _raising(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a user's module may raise anything
            raise self._problem(f"{what} raised {what_was_raised(error)}") from error


def own_trunk(observation_size: int, model: ModelConfig) -> OwnTrunk:
    """Return a new network of the user's; its weights come from PyTorch's global generator, and are left as they are.

    Raises:
        ConfigError: there is none of this name, or it does not keep the contract.
    """
    assert model.network is not None
    setting = f"model.network={model.network}"
    make: Callable[..., Any] = named_object(setting, model.network, EXAMPLE)
    name = model.network.rpartition(":")[2]
    if isinstance(make, nn.Module) or not callable(make):
        raise ConfigError(
            f"{setting}: must be a class or a function that makes a network, not a {type(make).__name__}: actor and "
            "critic each need a new one"
        )
    arguments = {"observation_size": observation_size, **model.kwargs}
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    try:
        network = make(**arguments)
    except Exception as error:
        raise ConfigError(f"{setting}: {call} raised {what_was_raised(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{setting}: {call} gave a {type(network).__name__}; it must be a torch.nn.Module")
    return OwnTrunk(setting, network, observation_size)


def refuse_common_parameters(actor: OwnTrunk, critic: OwnTrunk) -> None:
    """Raise ConfigError where the two networks are one: an update of the value function would move the policy."""
    known = {id(parameter) for parameter in actor.parameters()}
    for name, parameter in critic.network.named_parameters():
        if parameter.requires_grad and id(parameter) in known:
            raise ConfigError(
                f"{actor.setting}: gave actor and critic networks with the same parameter {name}; make a new network "
                "at every call, or set model.trunk=shared"
            )
