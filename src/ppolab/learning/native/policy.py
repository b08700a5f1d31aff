"""An `ActorCritic` whose parameters lie in one vector, evaluated and trained by ppo.cpp."""

from __future__ import annotations

import ctypes
import logging
import weakref
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppolab.config import Config
from ppolab.core.distributions import Bernoulli, DiagonalGaussian, MultiCategorical
from ppolab.native.library import NativeCodeError, native_library
from ppolab.native.structures import NativeAdam, native_samples, native_settings, terms_array
from ppolab.normalization import FrozenScaling
from ppolab.objective import Samples
from ppolab.parameters import FlatParameters
from ppolab.policy import ActorCritic, distribution_parameters

log = logging.getLogger(__name__)

ACTIVATIONS: dict[type[nn.Module], int] = {nn.Tanh: 0, nn.ReLU: 1}
FAMILIES: dict[type, int] = {DiagonalGaussian: 0, MultiCategorical: 1, Bernoulli: 2}
ACTION_HEAD, VALUE_HEAD = 0, 1
"""As the C++ code numbers them."""


@dataclass(frozen=True)
class AdamState:
    """What Adam keeps and how it steps; `mean` and `square` [P] are changed in place."""

    mean: Tensor
    square: Tensor
    steps: int
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    maximize: bool


def native_policy(policy: ActorCritic, flat: FlatParameters, config: Config) -> NativePolicy | None:
    """`policy` in C++; None for what ppo.cpp does not know, or without a compiler.

    It does not know GPUs, dropout, other activations, and standard deviations that depend on the state.
    """
    if not (flat.vector.is_cpu and flat.vector.dtype == torch.float32 and _is_plain(policy)):
        return None
    try:
        return NativePolicy(policy, flat, config)
    except NativeCodeError as error:
        log.warning("no C++ code for the update, which will be slower: %s", error)
        return None


def _is_plain(policy: ActorCritic) -> bool:
    trunks = [policy.actor] if policy.critic is None else [policy.actor, policy.critic]
    layers = [layer for trunk in trunks for layer in trunk]
    activations = {type(layer) for layer in layers if not isinstance(layer, nn.Linear)}
    known = len(activations) <= 1 and activations <= set(ACTIVATIONS) and type(policy.distribution) in FAMILIES
    return known and (policy.log_std is not None or not isinstance(policy.distribution, DiagonalGaussian))


class NativePolicy:
    """What `ActorCritic` computes from observations that are already normalised, and PPO's steps on it.

    It reads the parameters from the flat vector, so it is always up to date. Autograd does not see through it.
    Rows do not influence each other's outputs: any split of a batch gives the same numbers, bit for bit.

    Raises:
        NativeCodeError: the code cannot be compiled here.
    """

    def __init__(self, policy: ActorCritic, flat: FlatParameters, config: Config) -> None:
        self._library = native_library()
        self._vector = flat.vector.detach()
        self._log_std = policy.log_std.detach() if policy.log_std is not None else None
        self._actions = policy.action_head.out_features
        self._inputs = policy.observation_scale.mean.numel()
        self._settings = native_settings(config)
        description = _description(policy, flat, self._inputs)
        self._handle = self._library.ppo_create((ctypes.c_int64 * len(description))(*description))
        self._gradient = torch.zeros_like(self._vector)
        weakref.finalize(self, self._library.ppo_destroy, self._handle)

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """observations [..., D] -> (distribution parameters [..., P], values [...])."""
        shape = observations.shape[:-1]
        outputs, values = torch.empty((*shape, self._actions)), torch.empty(shape)
        self._evaluate(observations, outputs, values)
        return distribution_parameters(outputs, self._log_std), values

    def action_parameters(self, observations: Tensor) -> Tensor:
        """[..., P] parameters of the action distribution; skips a separate critic."""
        outputs = torch.empty((*observations.shape[:-1], self._actions))
        self._evaluate(observations, outputs, None)
        return distribution_parameters(outputs, self._log_std)

    def values(self, observations: Tensor) -> Tensor:
        """[...] values; skips a separate actor."""
        values = torch.empty(observations.shape[:-1])
        self._evaluate(observations, None, values)
        return values

    def act(
        self, raw: NDArray[np.float64], scaling: FrozenScaling, noise: Tensor, observations: Tensor, actions: Tensor
    ) -> None:
        """Fill `observations` [N, D] with `raw` [N, D] scaled, and `actions` [N, ...] with those that `noise` draws."""
        assert raw.flags.c_contiguous and all(part.is_contiguous() for part in (noise, observations, actions))
        self._library.ppo_act(
            self._handle, self._vector.data_ptr(), raw.ctypes.data, scaling.mean.ctypes.data,
            scaling.inverse_std.ctypes.data, scaling.limit, len(raw), noise.data_ptr(), observations.data_ptr(),
            actions.data_ptr(),
        )  # fmt: skip

    def clip_at(self, clip: float) -> None:
        """From now on clip the probability ratio to [1 - clip, 1 + clip]."""
        self._settings.clip = clip

    def penalize(self, weight: Tensor) -> None:
        """Put `weight` [] times KL(old || new) into the objective, whatever value it has when a step is made."""
        assert weight.dtype == torch.float32 and weight.is_cpu
        self._penalty = weight  # which must outlive the pointer
        self._settings.penalty = weight.data_ptr()

    def gradient(self, vector: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """(gradient [P] of the objective at the parameters `vector`, LossTerms as one tensor) of a minibatch.

        Rows of weight 0 must come last. The next call overwrites the gradient.
        """
        samples = Samples(*(part.contiguous() for part in batch))
        terms = terms_array(1)
        self._library.ppo_gradient(
            self._handle, vector.data_ptr(), ctypes.byref(native_samples(samples)), ctypes.byref(self._settings),
            int(samples.weights.sum()), self._gradient.data_ptr(), terms.data_ptr(),
        )  # fmt: skip
        return self._gradient, terms[0, :-1]

    def epoch(
        self, samples: Samples, order: Tensor, sizes: Tensor, adam: AdamState, max_grad_norm: float, threads: int
    ) -> tuple[Tensor, Tensor]:
        """Change the parameters by one Adam step per minibatch.

        Args:
            order: [B] int64, the samples in the order of the minibatches. sizes: [M] int64 of the minibatches.
            threads: 2 lets actor and critic work at the same time, with the same result.

        Returns:
            (LossTerms as columns [M, terms], norms [M] of the gradients before clipping)
        """
        assert len(sizes), "an epoch has at least one minibatch"
        terms = terms_array(len(sizes))
        state = NativeAdam(
            adam.mean.data_ptr(), adam.square.data_ptr(), adam.steps, adam.lr, *adam.betas, adam.eps,
            adam.weight_decay, adam.decoupled, adam.maximize, max_grad_norm,
        )  # fmt: skip
        self._library.ppo_epoch(
            self._handle, self._vector.data_ptr(), ctypes.byref(native_samples(samples)), ctypes.byref(self._settings),
            ctypes.byref(state), order.data_ptr(), sizes.data_ptr(), len(sizes), threads, self._gradient.data_ptr(),
            terms.data_ptr(),
        )  # fmt: skip
        return terms[:, :-1], terms[:, -1]

    def _evaluate(self, observations: Tensor, outputs: Tensor | None, values: Tensor | None) -> None:
        rows = observations.reshape(-1, self._inputs).contiguous()
        assert rows.dtype == torch.float32
        pointers = (None if target is None else target.data_ptr() for target in (outputs, values))
        self._library.ppo_evaluate(self._handle, self._vector.data_ptr(), rows.data_ptr(), len(rows), *pointers)


def _description(policy: ActorCritic, flat: FlatParameters, inputs: int) -> list[int]:
    """What `ppo_create` reads."""

    def linear(name: str) -> list[int]:
        layer = policy.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        places = [flat.slice_of(f"{name}.{part}").start for part in ("weight", "bias")]
        return [layer.in_features, layer.out_features, *places]

    def trunk(name: str, heads: list[list[int]]) -> list[int]:
        children = policy.get_submodule(name).named_children()
        hidden = [linear(f"{name}.{key}") for key, layer in children if isinstance(layer, nn.Linear)]
        return [len(hidden), len(heads), *(number for layer in (*hidden, *heads) for number in layer)]

    distribution = policy.distribution
    action_head, value_head = [ACTION_HEAD, *linear("action_head")], [VALUE_HEAD, *linear("value_head")]
    if policy.critic is None:
        trunks = [trunk("actor", [action_head, value_head])]
    else:
        trunks = [trunk("actor", [action_head]), trunk("critic", [value_head])]
    activation = next((ACTIVATIONS[type(layer)] for layer in policy.actor if type(layer) in ACTIVATIONS), 0)
    log_std = flat.slice_of("log_std").start if policy.log_std is not None else -1
    sizes = distribution.sizes if isinstance(distribution, MultiCategorical) else ()
    return [
        activation, inputs, FAMILIES[type(distribution)], policy.action_head.out_features, log_std, len(sizes), *sizes,
        len(trunks), *(number for part in trunks for number in part),
    ]  # fmt: skip
