"""The gradient of an objective, and whole epochs of Adam steps along it, made by ppo.cpp."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from ppolab.errors import ProcessError
from ppolab.learning.native.policy import NativePolicy
from ppolab.learning.native.structures import (
    NativeAdam,
    NativeRanks,
    NativeSettings,
    NativeStopping,
    native_samples,
    split_terms,
    terms_array,
)
from ppolab.learning.objective import NativeObjective, Samples


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


@dataclass(frozen=True)
class Stopping:
    """When an epoch ends early: the mean KL of the samples in each part of its minibatches is looked at.

    Attributes:
        parts: [K] int64 minibatches of each part.
        limit: above it no further part is made. broken: above it the steps of the last part are rolled back.
    """

    parts: Tensor
    limit: float
    broken: float


@dataclass(frozen=True)
class Steps:
    """The steps of an epoch.

    Attributes:
        terms: [M, terms] LossTerms as columns. norms: [M] of the gradients before clipping.
        stopped: a limit of `Stopping` was passed. last: minibatches of the last part. rolled_back: of these.
    """

    terms: Tensor
    norms: Tensor
    stopped: bool
    last: int
    rolled_back: int


class NativeUpdate:
    """Improve a `NativePolicy` on one objective. Tensors of the objective are read whenever a step is made."""

    def __init__(self, native: NativePolicy, objective: NativeObjective) -> None:
        assert native.separate or not objective.value_only, "a shared trunk serves the policy, too"
        penalty = objective.penalty
        self._native = native
        self._clip, self._entropy_coef = _readable(objective.clip), _readable(objective.entropy_coef)
        self._penalty = penalty
        assert penalty is None or (penalty.dtype == torch.float32 and penalty.is_cpu)
        self._settings = NativeSettings(
            clip=self._clip.data_ptr(),
            entropy_coef=self._entropy_coef.data_ptr(),
            value_coef=objective.value_coef,
            value_clip=-1.0 if objective.value_clip is None else objective.value_clip,
            penalty=None if penalty is None else penalty.data_ptr(),
            value_only=objective.value_only,
            masked=objective.masked,
        )
        self._gradient = torch.zeros_like(native.vector)

    def gradient(self, vector: Tensor, *batch: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (gradient [P] at the parameters `vector`, LossTerms as one tensor) of a minibatch.

        Without memory, rows of weight 0 must come last. The next call overwrites the gradient.
        """
        samples = Samples(*(part.contiguous() for part in batch if part is not None))
        terms = terms_array(1)
        count = int(samples.weights.sum()) if samples.states is None else samples.states.shape[1]
        self._native.library.ppo_gradient(
            self._native.handle, vector.data_ptr(), ctypes.byref(native_samples(samples)),
            ctypes.byref(self._settings), count, self._gradient.data_ptr(), terms.data_ptr(),
        )  # fmt: skip
        return self._gradient, split_terms(terms)[0][0]

    def epoch(
        self, samples: Samples, order: Tensor, sizes: Tensor, adam: AdamState, max_grad_norm: float, threads: int,
        stopping: Stopping | None = None, ranks: NativeRanks | None = None,
    ) -> Steps:  # fmt: skip
        """Change the parameters by one Adam step per minibatch.

        Args:
            order: [B] int64, the samples, or with memory the sequences, in the order of the minibatches.
            sizes: [M] int64 of the minibatches.
            threads: 2 lets actor and critic work at the same time, with the same result.
            stopping: None makes all steps.
            ranks: several processes share the steps, on the samples of all of them.

        Raises:
            ProcessError: another rank is gone.
        """
        assert len(sizes), "an epoch has at least one minibatch"
        terms = terms_array(len(sizes))
        state = NativeAdam(
            mean=adam.mean.data_ptr(),
            square=adam.square.data_ptr(),
            steps=adam.steps,
            lr=adam.lr,
            beta1=adam.betas[0],
            beta2=adam.betas[1],
            epsilon=adam.eps,
            weight_decay=adam.weight_decay,
            decoupled=adam.decoupled,
            maximize=adam.maximize,
            max_grad_norm=max_grad_norm,
        )
        parts = sizes.new_tensor([len(sizes)]) if stopping is None else stopping.parts
        ends = NativeStopping(parts=parts.data_ptr(), count=len(parts), made=len(parts))
        if stopping is not None:
            ends.limit, ends.broken = stopping.limit, stopping.broken
        whole = self._native.library.ppo_epoch(
            self._native.handle, self._native.vector.data_ptr(), ctypes.byref(native_samples(samples)),
            ctypes.byref(self._settings), ctypes.byref(state), order.data_ptr(), sizes.data_ptr(), len(sizes), threads,
            self._gradient.data_ptr(), terms.data_ptr(), None if stopping is None else ctypes.byref(ends),
            None if ranks is None else ctypes.byref(ranks),
        )  # fmt: skip
        if not whole:
            raise ProcessError("another process of this run is gone")
        made, last = int(parts[: ends.made].sum()), int(parts[ends.made - 1])
        return Steps(*split_terms(terms[:made]), bool(ends.stopped), last, last if ends.rolled_back else 0)


def _readable(number: float | Tensor) -> Tensor:
    """Return `number` as a tensor [] float64 that C++ can read."""
    tensor = number if isinstance(number, Tensor) else torch.tensor(number, dtype=torch.float64)
    assert tensor.dtype == torch.float64 and tensor.is_cpu
    return tensor
