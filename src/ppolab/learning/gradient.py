"""Differentiate the objective by the parameter vector, for any network: eager, or as one compiled graph."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.functional_call import functional_call  # `torch.func` imports half of the compiler

from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.flat_parameters import FlatParameters
from ppolab.learning.interface import LearnerContext
from ppolab.learning.native.library import compiler
from ppolab.learning.objective import LossTerms, Objective, Samples, share_of_terms
from ppolab.learning.own_network import own_networks
from ppolab.learning.wide_layers import WideLinear
from ppolab.runtime.deferred_imports import load_deferred

log = logging.getLogger(__name__)

COMPILING_EARNS = {"cpu": 15_000, "cuda": 2_500}
"""Gradient steps after which PyTorch's compiler has won back the seconds it costs, by the type of the device."""
COMPILING_IMAGES_EARNS = 2_000
"""The same on a processor where observations hold images, whose steps take longer."""

PIXELS_THAT_GAIN_NOTHING = 256
"""Images of more pixels spend their time in convolutions, which compiled code leaves to oneDNN, as PyTorch does.

Not compiled, gradients take within 2% of the time, and the run takes some 200 MB less: docs/performance.md, "Images".
"""

IMAGES_AT_ONCE = 128
"""Samples with images that PyTorch differentiates together. With 64, gradients take 7 percent longer."""
IMAGES_AT_ONCE_IN_NATIVE = 256
"""The same where C++ convolves, which keeps less."""

WEIGHTS = Samples._fields.index("weights")

Gradient = Callable[..., tuple[Tensor, Tensor]]
"""(vector [P], *minibatch, *inputs) -> (gradient [P], LossTerms as one tensor).

The next call may overwrite the gradient.
"""


def worth_compiling(context: LearnerContext) -> bool:
    """Return whether to use PyTorch's compiler, as `compile` says; not with memory, whose steps are many."""
    if context.policy.has_memory:
        return False
    choice = context.config.compile.lower()
    return choice == "true" if choice != "auto" else _problem_of_compiling(context) is None


def log_whether_compiling(context: LearnerContext) -> None:
    """Write to the log why `compile=auto` does not use PyTorch's compiler, where it does not."""
    asked = context.config.compile.lower() == "auto" and not context.policy.has_memory
    problem = _problem_of_compiling(context) if asked else None
    if problem:
        log.info("compile=auto: not compiling, since %s", problem)


def _problem_of_compiling(context: LearnerContext) -> str | None:
    config, device = context.config, context.flat.vector.device.type
    if compiler() is None:
        return "there is no C++ compiler here (g++ or clang++)"
    if _gains_nothing(context):
        return "compiled code convolves no faster"
    earns = COMPILING_EARNS[device]
    if context.policy.layout.images and device == "cpu":
        earns = COMPILING_IMAGES_EARNS
    if config.total_steps * config.epochs // config.minibatch_size < earns:
        return "the run is too short to earn the time back"
    return None


def _gains_nothing(context: LearnerContext) -> bool:
    """Return whether all but little of a step are shipped convolutions on a processor, in 32 bits."""
    policy = context.policy
    own = next(own_networks(policy), None)
    if not policy.layout.images or policy.bf16 or own is not None or not context.flat.vector.is_cpu:
        return False
    return all(math.prod(each.height_and_width) > PIXELS_THAT_GAIN_NOTHING for each in policy.layout.images)


def whole_gradient(
    policy: ActorCritic, flat: FlatParameters, objective: Objective, into: Tensor | None = None
) -> Gradient:
    """Differentiate `objective` through `policy` itself, whatever its layers are; pure in the vector.

    The objective's inputs are further arguments, so that compiled code sees them change.

    Args:
        into: [P] where to put the gradient, which is returned. Not for compiled code, which would not see it change.
    """
    columns = len(Samples._fields)
    places = None if into is None else flat.named(into)
    if places is not None:
        for name, module in policy.named_modules():
            if isinstance(module, WideLinear):
                module.into = places.get(f"{name}.weight")  # not where a user's layer has another name, too

    def gradient(vector: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        batch, inputs = Samples(*arguments[:columns]), arguments[columns:]
        named = {name: part.requires_grad_() for name, part in flat.named(vector.detach()).items()}
        seen = batch.inputs_of_policy()
        parameters, values = functional_call(policy, flat.with_aliases(named), seen, tie_weights=False)
        loss, terms = objective.function(parameters, values, batch, *inputs)
        parts = torch.autograd.grad(  # `torch.func.grad` would import all of the compiler
            loss, list(named.values()), allow_unused=True, materialize_grads=True
        )
        if into is None or places is None:
            return torch.cat([part.reshape(-1) for part in parts]), terms
        for place, part in zip(places.values(), parts, strict=True):
            if part.data_ptr() != place.data_ptr():
                place.copy_(part)
        return into, terms

    return gradient


def gradient_of_members(policy: ActorCritic, flat: FlatParameters, objective: Objective, count: int) -> Gradient:
    """Differentiate the objectives of M networks of one architecture, each by parameters of its own.

    It is called with vectors [M, P], minibatches [M, B, ...] and inputs [M], and returns gradients [M, P] and terms
    [M, terms]. Not with memory.

    Args:
        policy, flat, objective: of any of them.
        count: M.
    """
    if count == 1:
        alone = whole_gradient(policy, flat, objective)

        def of_one(vectors: Tensor, *arguments: Tensor | None) -> tuple[Tensor, Tensor]:
            slope, terms = alone(vectors[0], *(None if each is None else each[0] for each in arguments))
            return slope[None], terms[None]

        return of_one
    columns = len(Samples._fields)

    def loss(vector: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        batch, inputs = Samples(*arguments[: WEIGHTS + 1]), arguments[WEIGHTS + 1 :]
        answer = functional_call(policy, flat.substitutes(vector), batch.inputs_of_policy(), tie_weights=False)
        return objective.function(*answer, batch, *inputs)

    def gradient(vectors: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        points = vectors.detach().requires_grad_()
        losses, terms = torch.vmap(loss)(points, *arguments[: WEIGHTS + 1], *arguments[columns:])
        (slopes,) = torch.autograd.grad(losses.sum(), points)  # no loss depends on parameters of another member
        return slopes, terms.detach()

    return gradient


def in_parts(gradient: Gradient, minibatch_size: int, *, in_native: bool = False) -> Gradient:
    """Return `gradient` of minibatches of images, added up over parts of them, which are all of one size.

    What the layers of a whole minibatch keep for the backward pass takes much memory, and more than the caches hold.

    Args:
        in_native: C++ convolves.
    """
    count = -(-minibatch_size // (IMAGES_AT_ONCE_IN_NATIVE if in_native else IMAGES_AT_ONCE))
    size = -(-minibatch_size // count)
    columns = len(Samples._fields)
    if count == 1:
        return gradient

    def call(vector: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        batch, inputs = arguments[:columns], arguments[columns:]
        weight = float(batch[WEIGHTS].sum())
        result, terms = torch.zeros_like(vector), torch.zeros(len(LossTerms._fields))
        for first in range(0, minibatch_size, size):
            part = _part(batch, first, size)
            share = float(part[WEIGHTS].sum()) / weight
            if share > 0:  # else it is filled up with samples that weigh nothing
                slope, found = gradient(vector, *part, *inputs)
                result.add_(slope, alpha=share)
                terms += share_of_terms(found, share)
                del slope  # the next part's layers need the memory
        return result, terms

    return call


def _part(batch: Sequence[Tensor | None], first: int, size: int) -> list[Any]:
    """Return `size` of the samples, from `first` on; if fewer are left, the last ones, of which the others weigh 0."""
    weights = batch[WEIGHTS]
    assert weights is not None
    begin = min(first, len(weights) - size)
    part = [None if column is None else column[begin : begin + size] for column in batch]
    if begin < first:
        part[WEIGHTS] = torch.where(torch.arange(begin, begin + size) < first, 0.0, weights[begin : begin + size])
    return part


def gradient_with_memory(policy: ActorCritic, flat: FlatParameters, objective: Objective) -> Gradient:
    """Return what `whole_gradient` does for a policy with memory, at the parameters that it has.

    The steps of a memory in C++ know PyTorch's own autograd: tensors of `torch.func` have no address. The loss is
    differentiated by the parameters as they are, not as parts of the vector, which takes fewer operations.
    """
    named = dict(policy.named_parameters())
    parameters = [named[name] for name in flat.names]
    columns = len(Samples._fields)

    def gradient(vector: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        assert vector.data_ptr() == flat.vector.data_ptr(), "the parameters are views of this vector"
        batch = Samples(*arguments[:columns])
        loss, terms = objective.function(*policy(*batch.inputs_of_policy()), batch, *arguments[columns:])
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts]), terms

    return gradient


def compiled_on_first_call(function: Gradient, *, replayed: bool = True) -> Gradient:
    """Return `function` as compiled code for the shapes of its first call, which the caller never changes.

    The traced graph is compiled and called directly: `torch.compile` would check its guards at every call, which costs
    as much as the arithmetic. Where compiling fails (no C++ compiler, say), `function` is used, after one warning.
    Columns that samples do not have are None, of which compiled code knows nothing.

    Args:
        replayed: on a GPU as a CUDA graph of its own; else the kernels are launched one by one, and can be part of
            another graph.
    """
    code: list[Gradient] = []

    def call(*arguments: Tensor | None) -> tuple[Tensor, Tensor]:
        def of_tensors(*given: Tensor) -> tuple[Tensor, Tensor]:
            following = iter(given)
            return function(*(None if each is None else next(following) for each in arguments))

        tensors = tuple(each for each in arguments if each is not None)
        if not code:
            code.append(_compiled(of_tensors, tensors, replayed=replayed))
        return code[0](*tensors)

    return call


def _compiled(function: Gradient, arguments: tuple[Tensor, ...], *, replayed: bool) -> Gradient:
    device = arguments[0].device
    on_gpu = device.type == "cuda"
    as_graph = on_gpu and replayed
    try:  # dropout draws in the trials below; a resumed run, which makes them later, would find other numbers
        with torch.random.fork_rng([device] if on_gpu else []), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own deprecations, which must not stop it
            load_deferred()
            import torch._inductor as inductor  # a second or two that a run without compiling need not wait
            from torch.fx.experimental.proxy_tensor import make_fx

            graph = make_fx(function)(*arguments)
            compiled: Gradient = inductor.compile(
                graph, list(arguments), options={"triton.cudagraphs": True} if as_graph else None
            )
            compiled = _replayed(compiled) if as_graph else compiled
            for _ in range(3 if as_graph else 1):  # a CUDA graph is warmed up, recorded, and only then replayed
                compiled(*arguments)
    except Exception as error:  # the compiler and what it calls raise errors of many families
        log.warning("not compiling, updates will be slower: %s", str(error).splitlines()[0])
        return function
    return compiled


def _replayed(compiled: Gradient) -> Gradient:
    """Copy the terms, which are collected, out of the memory that a CUDA graph returns at every replay."""

    def call(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        gradient, terms = compiled(*arguments)
        return gradient, terms.clone()

    return call
