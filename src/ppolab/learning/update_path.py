"""Choose what computes an update, C++ or PyTorch, and say why where it is not all C++."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from ppolab.config.algorithms import is_own
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.device_epoch import DeviceEpoch, Member
from ppolab.learning.encoders import RowEncoder
from ppolab.learning.epoch import Epoch, NativeEpoch, stepwise_epoch
from ppolab.learning.gradient import (
    Gradient,
    compiled_on_first_call,
    gradient_of_members,
    gradient_with_memory,
    in_parts,
    log_whether_compiling,
    whole_gradient,
    worth_compiling,
)
from ppolab.learning.interface import LearnerContext
from ppolab.learning.native import NativeUpdate, work_of
from ppolab.learning.native.library import instructions, library_problem
from ppolab.learning.native.policy import unknown_to_native
from ppolab.learning.objective import Objective
from ppolab.learning.optimizer import is_adam
from ppolab.learning.shaped_optimizer import ShapedOptimizer

log = logging.getLogger(__name__)

SLOWER = {
    "steps of one vector": "with the shipped settings 1.1 to 1.9 times slower than all in C++",
    "steps of each parameter": "with the shipped settings 2.1 to 6.1 times slower than all in C++",
    "compiled": "with the shipped settings 1.6 to 3.4 times slower than the C++ code",
    "not compiled": "with the shipped settings 4 to 16 times slower than the C++ code",
}
"""Processor time of whole trainings, on Hopper to on CartPole: docs/performance.md."""

PRODUCTS = "its own products of matrices at every width"
"""A library's would gain too little: docs/performance.md, "Arithmetic of an update"."""


@dataclass(frozen=True)
class UpdatePath:
    """What computes the gradients of an update, and what makes its steps.

    Attributes:
        gradients_in_native: C++ does the first. epochs_in_native: C++ does both, one call per epoch.
        reason: why not both, in words that follow "since"; None if C++ does both.
        cost: what that costs, in words; empty where it was not measured.
        level: of the line in the log; a warning where the machine lacks something.
    """

    gradients_in_native: bool
    epochs_in_native: bool
    reason: str | None = None
    cost: str = ""
    level: int = logging.INFO

    def log_reason(self, context: LearnerContext) -> None:
        """Write one line to the log of the first process; only the file gets it where C++ does all."""
        if not context.group.is_first:
            return
        if self.reason is None:
            log.debug("C++ computes the update, with %s and %s", instructions(), PRODUCTS)
            return
        what = "PyTorch computes the update"
        if self.gradients_in_native:
            what = "C++ computes the gradients, PyTorch makes the steps"
        log.log(self.level, "%s, since %s", f"{what}, {self.cost}" if self.cost else what, self.reason)


def update_path(context: LearnerContext, objective: Objective, optimizer: torch.optim.Optimizer) -> UpdatePath:
    """Return the fastest path that knows network, objective, optimizer and number of processes."""
    if context.native is None or objective.native is None:
        reason, level = _gradient_problem(context)
        return UpdatePath(
            gradients_in_native=False,
            epochs_in_native=False,
            reason=reason,
            cost=_cost_of_pytorch(context),
            level=level,
        )
    problem = _epoch_problem(context, optimizer)
    if problem is None:
        return UpdatePath(gradients_in_native=True, epochs_in_native=True)
    cost = SLOWER["steps of each parameter" if isinstance(optimizer, ShapedOptimizer) else "steps of one vector"]
    if context.group.size > 1:  # which was not measured
        cost = "which is slower"
    return UpdatePath(gradients_in_native=True, epochs_in_native=False, reason=problem, cost=cost)


def _cost_of_pytorch(context: LearnerContext) -> str:
    device, policy = context.flat.vector.device, context.policy
    other = context.together or policy.layout.images or policy.has_memory
    if device.type != "cpu" or other:  # of which no other path was measured
        return ""
    return SLOWER["compiled" if worth_compiling(context) else "not compiled"]


def _gradient_problem(context: LearnerContext) -> tuple[str, int]:
    """Return why C++ does not compute the gradients, and the level of the line about it."""
    if context.native is not None:
        return f"the C++ code does not know the surrogate of algorithm={context.config.algorithm['name']}", logging.INFO
    if context.together:
        return "several seeds are trained at once", logging.DEBUG  # which the user was told of
    if context.config.compile.lower() == "false":
        return "compile=false asks for it", logging.DEBUG  # the user knows
    if context.policy.has_memory and context.flat.vector.is_cpu and (problem := library_problem()):
        return problem, logging.WARNING
    if reason := unknown_to_native(context.policy, context.flat):
        return reason, logging.INFO
    return library_problem() or "the learner was given no C++ policy", logging.WARNING


def _epoch_problem(context: LearnerContext, optimizer: torch.optim.Optimizer) -> str | None:
    if context.group.size > 1 and not context.group.shares_memory:
        return f"{context.group.size} processes add up their gradients before every step"
    if not is_adam(optimizer):
        target = context.config.optimizer["_target_"]
        return f"the C++ code steps Adam and AdamW alone (fused, without amsgrad), and this is {target}"
    return None


def make_epoch(context: LearnerContext, objective: Objective, optimizer: torch.optim.Optimizer) -> Epoch:
    """Return an epoch of steps of `optimizer` on all parameters, by the path that `update_path` chooses."""
    path = update_path(context, objective, optimizer)
    config, vector = context.config, context.flat.vector
    if on_device(context, optimizer):
        gradient = gradient_of_members(context.policy, context.flat, objective, 1)
        log_whether_compiling(context)
        if worth_compiling(context):
            gradient = compiled_on_first_call(gradient, replayed=False)
        return DeviceEpoch(gradient, [Member(vector, optimizer, objective.inputs)], config)
    if not path.gradients_in_native:
        gradient = _pytorch_gradient(context, objective)
        stacks = _convolves_in_native(context.policy)
        return stepwise_epoch(gradient, vector, optimizer, config, context.group, stacks=stacks)
    assert context.native is not None and objective.native is not None
    native = NativeUpdate(context.native, objective.native)
    if path.epochs_in_native:
        work = work_of(context.group, len(vector)) if context.group.size > 1 else None
        return NativeEpoch(native, vector, optimizer, config, work)
    return stepwise_epoch(native.gradient, vector, optimizer, config, context.group)


def on_device(context: LearnerContext, optimizer: torch.optim.Optimizer) -> bool:
    """Return whether whole epochs stay on a GPU, without waiting for it.

    Code of the user's may wait for the device or do something on the processor, which a CUDA graph does not repeat.
    """
    config, policy = context.config, context.policy
    alone = context.group.size == 1 and not policy.has_memory and not policy.layout.images
    shipped = not config.model.is_own and not is_own(config.algorithm["name"])
    return context.flat.vector.is_cuda and alone and shipped and is_adam(optimizer)


def _convolves_in_native(policy: ActorCritic) -> bool:
    """Return whether C++ reads all images of a policy without memory, whose sequences are put together."""
    if policy.has_memory:
        return False
    encoders = [part for part in policy.modules() if isinstance(part, RowEncoder)]
    return bool(encoders) and all(encoder.reads_stacks for encoder in encoders)


def _pytorch_gradient(context: LearnerContext, objective: Objective) -> Gradient:
    inputs, compiles = objective.inputs, worth_compiling(context)
    if context.policy.has_memory:
        gradient = gradient_with_memory(context.policy, context.flat, objective)
    else:
        into = None if compiles else torch.empty_like(context.flat.vector.detach())
        gradient = whole_gradient(context.policy, context.flat, objective, into)
    log_whether_compiling(context)
    if compiles:
        gradient = compiled_on_first_call(gradient)
    alone = not context.policy.has_memory  # else a minibatch is of whole sequences
    if alone and context.policy.layout.images and context.flat.vector.device.type == "cpu":
        in_native = _convolves_in_native(context.policy)
        gradient = in_parts(gradient, context.config.minibatch_size, in_native=in_native)
    return gradient if not inputs else lambda vector, *batch: gradient(vector, *batch, *inputs)
