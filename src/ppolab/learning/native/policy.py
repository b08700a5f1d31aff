"""An `ActorCritic` whose parameters lie in one vector, evaluated by ppo.cpp."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppolab.core.distributions import Bernoulli, DiagonalGaussian, MultiCategorical
from ppolab.learning.actor import Answer
from ppolab.learning.actor_critic import ActorCritic, distribution_parameters
from ppolab.learning.flat_parameters import FlatParameters
from ppolab.learning.memory import GruLayer, LstmLayer
from ppolab.learning.native.library import library_problem, native_library
from ppolab.learning.native.recurrence import LANES
from ppolab.learning.native.structures import NativeOutcomes
from ppolab.learning.normalization import FrozenScaling
from ppolab.learning.own_network import OwnTrunk

ACTIVATIONS: dict[type[nn.Module], int] = {nn.Tanh: 0, nn.ReLU: 1, nn.ELU: 2, nn.GELU: 3, nn.SiLU: 4}
FAMILIES: dict[type, int] = {DiagonalGaussian: 0, MultiCategorical: 1, Bernoulli: 2}
MEMORIES: dict[type[nn.Module], int] = {GruLayer: 1, LstmLayer: 2}
ACTION_HEAD, VALUE_HEAD, PROJECTION = 0, 1, 0
"""Numbers of the heads in the C++ code; the last one is that of a trunk below a recurrent layer."""


@dataclass(frozen=True)
class Outcomes:
    """What advantages are computed from, besides values.

    Attributes:
        rewards: [T, N] scaled. terminated, truncated: [T, N] bool.
        rows: [B] int64, those of the T * N steps that become samples.
    """

    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    gamma: float
    gae_lambda: float
    rows: Tensor


def native_policy(policy: ActorCritic, flat: FlatParameters, threads: int = 1) -> NativePolicy | None:
    """Return `policy` in C++; None for what ppo.cpp does not know, or where it cannot be compiled."""
    return None if unknown_to_native(policy, flat) or library_problem() else NativePolicy(policy, flat, threads)


def unknown_to_native(policy: ActorCritic, flat: FlatParameters) -> str | None:
    """Return why ppo.cpp cannot compute `policy`: its device, its numbers, or its layers. None: it can."""
    if not flat.vector.is_cpu:
        return f"the network is on a device of type {flat.vector.device.type}, not on the processor"
    if flat.vector.dtype != torch.float32:
        return f"the parameters are of type {flat.vector.dtype}, not torch.float32"
    if isinstance(policy.actor, OwnTrunk):
        return f"{policy.actor.setting} is a network of your own"
    if policy.actor_memory is not None and policy.actor_memory.size % LANES:
        return f"model.memory_size={policy.actor_memory.size} is not a multiple of {LANES}"
    if policy.bf16:
        return "trainer.precision=bf16 asks for it"
    if policy.layout.images:
        return "the observations hold images"
    kinds = {type(layer) for layer in _layers(policy)} - {nn.Linear}
    if nn.Dropout in kinds:
        return "the network has dropout (model.dropout)"
    assert kinds <= set(ACTIVATIONS) and len(kinds) <= 1, kinds
    if type(policy.distribution) not in FAMILIES:
        return "an action has parts of different kinds"
    if policy.log_std is None and isinstance(policy.distribution, DiagonalGaussian):
        return "standard deviations depend on the state (model.state_dependent_std)"
    return None


def _layers(policy: ActorCritic) -> list[nn.Module]:
    """Return what is between observations and heads."""
    return [layer for trunk in (policy.actor, policy.critic) if trunk is not None for layer in trunk.children()]


class NativePolicy:
    """Compute what `ActorCritic` computes from observations that are already normalised.

    It reads the parameters from the flat vector, so it is always up to date. Autograd does not see through it.
    Rows do not influence each other's outputs: any split of a batch gives the same numbers, bit for bit.

    Args:
        threads: 2 shares many observations between two threads.

    Attributes:
        library: the loaded C++ code. handle: its object for this policy.
        vector: [P] all parameters. separate: actor and critic have no layer in common.

    Raises:
        NativeCodeError: the code cannot be compiled here.
    """

    def __init__(self, policy: ActorCritic, flat: FlatParameters, threads: int = 1) -> None:
        self.library = native_library()
        self.vector = flat.vector.detach()
        self.separate = policy.critic is not None
        self._log_std = policy.log_std.detach() if policy.log_std is not None else None
        self._actions = policy.action_head.out_features
        self._inputs = policy.observation_scale.mean.numel()
        description = _description(policy, flat, self._inputs)
        self.handle = self.library.ppo_create((ctypes.c_int64 * len(description))(*description))
        weakref.finalize(self, self.library.ppo_destroy, self.handle)
        self.library.ppo_use_threads(self.handle, threads)

    def __call__(
        self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (distribution parameters [..., P], values [...]) of observations [..., D].

        With memory, `state` and `starts` are as in `ActorCritic.forward`.
        """
        shape = observations.shape[:-1]
        outputs, values = torch.empty((*shape, self._actions)), torch.empty(shape)
        self._evaluate(observations, outputs, values, state, starts)
        return self.parameters_of(outputs), values

    def action_parameters(
        self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> Tensor:
        """Return the parameters [..., P] of the action distribution; skips a separate critic."""
        outputs = torch.empty((*observations.shape[:-1], self._actions))
        self._evaluate(observations, outputs, None, state, starts)
        return self.parameters_of(outputs)

    def values(self, observations: Tensor, state: Tensor | None = None, starts: Tensor | None = None) -> Tensor:
        """Return values [...]; skips a separate actor."""
        values = torch.empty(observations.shape[:-1])
        self._evaluate(observations, None, values, state, starts)
        return values

    def advantages(self, of: Outcomes, *, values: Tensor | None, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return advantages [B] and lambda-returns [B], see `generalized_advantages`, without memory.

        Args:
            values: [T+1, N] of the observations [T+1, N, D]; None: those under the parameters as they are now.
        """
        steps, environments = of.rewards.shape
        given = (of.rewards, of.terminated, of.truncated, of.rows, observations)
        assert all(each.is_contiguous() for each in given)
        assert of.rewards.dtype == observations.dtype == torch.float32
        rows = None if values is not None else observations.data_ptr()
        values = torch.empty((steps + 1, environments)) if values is None else values.contiguous()
        assert values.dtype == torch.float32 and values.shape == (steps + 1, environments)
        outcomes = NativeOutcomes(
            steps, environments, of.rewards.data_ptr(), of.terminated.data_ptr(), of.truncated.data_ptr(), of.gamma,
            of.gamma * of.gae_lambda, of.rows.data_ptr(), len(of.rows),
        )  # fmt: skip
        advantages, returns = torch.empty(len(of.rows)), torch.empty(len(of.rows))
        self.library.ppo_advantages(
            self.handle, self.vector.data_ptr(), rows, ctypes.byref(outcomes), values.data_ptr(),
            advantages.data_ptr(), returns.data_ptr(),
        )  # fmt: skip
        return advantages, returns

    def parameters_of(self, outputs: Tensor) -> Tensor:
        """Return the distribution parameters [..., P] that the outputs [..., A] of the action head mean."""
        return distribution_parameters(outputs, self._log_std)

    def prepare(self) -> None:
        """Read the weights of recurrent layers: `act` with an `Answer` uses those of the last time."""
        self.library.ppo_prepare(self.handle, self.vector.data_ptr())

    def act(
        self,
        raw: NDArray[np.float64],
        scaling: FrozenScaling,
        noise: Tensor | None,
        observations: Tensor,
        actions: Tensor,
        masks: Tensor | None = None,
        answer: Answer | None = None,
    ) -> None:
        """Fill `observations` [N, D] with `raw` [N, D] scaled, and `actions` [N, ...] with those that `noise` draws.

        Without noise these are the most probable ones. Only those in `masks` [N, A] bool are taken, if there are some.

        Args:
            answer: with memory, what this step changes and fills.
        """
        assert raw.flags.c_contiguous and observations.is_contiguous() and actions.is_contiguous()
        assert noise is None or noise.is_contiguous()
        assert masks is None or (masks.is_contiguous() and masks.dtype == torch.bool)
        filled = (None, None, None) if answer is None else (answer.state, answer.outputs, answer.values)
        assert all(each is None or each.is_contiguous() for each in filled)
        self.library.ppo_act(
            self.handle, self.vector.data_ptr(), raw.ctypes.data, scaling.mean.ctypes.data,
            scaling.inverse_std.ctypes.data, scaling.limit, len(raw), None if noise is None else noise.data_ptr(),
            None if masks is None else masks.data_ptr(), observations.data_ptr(), actions.data_ptr(),
            *(None if each is None else each.data_ptr() for each in filled),
        )  # fmt: skip

    def _evaluate(
        self,
        observations: Tensor,
        outputs: Tensor | None,
        values: Tensor | None,
        state: Tensor | None,
        starts: Tensor | None,
    ) -> None:
        rows = observations.reshape(-1, self._inputs).contiguous()
        assert rows.dtype == torch.float32
        pointers = [None if target is None else target.data_ptr() for target in (outputs, values)]
        if state is None:
            self.library.ppo_evaluate(self.handle, self.vector.data_ptr(), rows.data_ptr(), len(rows), *pointers)
            return
        self.prepare()
        state, keep = state.contiguous(), None if starts is None else (~starts).to(torch.float32).contiguous()
        self.library.ppo_remember(
            self.handle, self.vector.data_ptr(), rows.data_ptr(), len(rows) // state.shape[1], len(rows),
            None if keep is None else keep.data_ptr(), state.data_ptr(), *pointers,
        )  # fmt: skip


def _description(policy: ActorCritic, flat: FlatParameters, inputs: int) -> list[int]:
    """Return the numbers that `ppo_create` reads."""

    def linear(name: str) -> list[int]:
        layer = policy.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        places = [flat.slice_of(f"{name}.{part}").start for part in ("weight", "bias")]
        return [layer.in_features, layer.out_features, *places]

    def trunk(hidden: list[list[int]], heads: list[list[int]]) -> list[int]:
        return [len(hidden), len(heads), *(number for layer in (*hidden, *heads) for number in layer)]

    def recurrent(name: str) -> list[int]:
        layer = policy.get_submodule(name)
        assert isinstance(layer, GruLayer | LstmLayer)
        bias = -1 if layer.recurrent.bias is None else flat.slice_of(f"{name}.recurrent.bias").start
        weight = flat.slice_of(f"{name}.recurrent.weight").start
        return [MEMORIES[type(layer)], layer.recurrent.in_features, weight, bias]

    def network(name: str, heads: list[list[int]]) -> list[int]:
        children = policy.get_submodule(name).named_children()
        hidden = [linear(f"{name}.{key}") for key, layer in children if isinstance(layer, nn.Linear)]
        memory = getattr(policy, f"{name}_memory")
        layers = [] if memory is None else [f"{name}_memory.layers.{index}" for index in range(len(memory.layers))]
        tops = [*([[PROJECTION, *linear(f"{layer}.inputs")]] for layer in layers), heads]
        above = [recurrent(layer) + trunk([], top) for layer, top in zip(layers, tops[1:], strict=True)]
        return [len(layers), *trunk(hidden, tops[0]), *(number for part in above for number in part)]

    distribution = policy.distribution
    action_head, value_head = [ACTION_HEAD, *linear("action_head")], [VALUE_HEAD, *linear("value_head")]
    if policy.critic is None:
        networks = [network("actor", [action_head, value_head])]
    else:
        networks = [network("actor", [action_head]), network("critic", [value_head])]
    activation = next((ACTIVATIONS[type(layer)] for layer in _layers(policy) if type(layer) in ACTIVATIONS), 0)
    log_std = flat.slice_of("log_std").start if policy.log_std is not None else -1
    sizes = distribution.sizes if isinstance(distribution, MultiCategorical) else ()
    return [
        activation, inputs, FAMILIES[type(distribution)], policy.action_head.out_features, log_std, len(sizes), *sizes,
        len(networks), *(number for part in networks for number in part),
    ]  # fmt: skip
