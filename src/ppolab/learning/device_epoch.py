"""Make epochs of one run or of several at once, without waiting for the device: on a GPU as replays of CUDA graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from ppolab.config.schema import Config
from ppolab.core.adam import AdamSettings, Stepped, adam_step
from ppolab.learning.epoch import MinibatchOrder, Pass
from ppolab.learning.gradient import WEIGHTS, Gradient
from ppolab.learning.native.update import Steps
from ppolab.learning.objective import LossTerms, Samples
from ppolab.learning.optimizer import adam_state, is_adam
from ppolab.learning.replayed import Replayed

STEPS_AT_ONCE = 32
"""At most so many gradient steps are one CUDA graph: capturing takes time and memory for each."""

TERMS = LossTerms._fields
KL_SUM, SAMPLES = TERMS.index("kl_sum"), TERMS.index("samples")


@dataclass(frozen=True)
class Member:
    """One of M runs that are trained at once.

    Attributes:
        vector: [P] its parameters. optimizer: Adam or AdamW, which holds the state of its steps.
        inputs: of its objective, each [].
    """

    vector: nn.Parameter
    optimizer: torch.optim.Optimizer
    inputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class _Inputs:
    """What is read in K steps of M members, in tensors that stay where they are.

    Attributes:
        columns: of samples, each [M * R, ...]: a member's rows come after those of the one before.
        places: [K, M * B] among these rows. weights: [K, M, B].
        active: [K, M] bool, whether a member has such a step. begins, ends: the same, of parts that are looked at.
        rates, limits, broken: [M] float64, learning rates, and the bounds of `Stopping`.
        of_objective: each [M].
    """

    columns: tuple[Tensor, ...]
    places: Tensor
    weights: Tensor
    active: Tensor
    begins: Tensor
    ends: Tensor
    rates: Tensor
    limits: Tensor
    broken: Tensor
    of_objective: tuple[Tensor, ...]


@dataclass(frozen=True)
class _State:
    """What steps change, in tensors that stay where they are.

    Attributes:
        vector, mean, square: [M, P] as in `Stepped`. steps: [M].
        before: [M, P] parameters at the beginning of the part. kl_sum, samples: [M] of the part.
        stopped: [M] bool, no further step changes anything. rolled_back: [M] bool, nor did the last part.
        told: [K, M, terms + 2] LossTerms as columns, norms, and 1 where a step was made.
    """

    vector: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    before: Tensor
    kl_sum: Tensor
    samples: Tensor
    stopped: Tensor
    rolled_back: Tensor
    told: Tensor


class DeviceEpoch:
    """Make an epoch's steps for M members together; a step whose member has stopped changes nothing.

    Whether the KL ends an update is decided on the device. The processor learns of it at the end of the epoch.

    Args:
        gradient: of all members, see `gradient_of_members`.
        config: of any member; what differs between them stands in their optimizers and inputs.
    """

    def __init__(self, gradient: Gradient, members: Sequence[Member], config: Config) -> None:
        assert all(is_adam(member.optimizer) for member in members)
        self._gradient = gradient
        self._members = members
        self._config = config
        self._device = members[0].vector.device
        self._rows = config.batch_size
        self._chunk = min(STEPS_AT_ONCE, -(-self._rows // config.minibatch_size))
        self._replayed = Replayed(lambda: self._make_steps(self._chunk), self._device)
        self._inputs: _Inputs | None = None

    def __call__(self, samples: Samples, order: MinibatchOrder) -> tuple[Tensor, Tensor]:
        """Make a step per minibatch of the only member; see `Epoch`."""
        steps = self.steps(Pass(samples, order))
        return steps.terms, steps.norms

    def steps(self, each: Pass) -> Steps:
        """Make the steps of a pass of the only member."""
        (steps,) = self.of_members([each])
        assert steps is not None
        return steps

    @torch.no_grad()
    def of_members(self, passes: Sequence[Pass | None]) -> list[Steps | None]:
        """Make the epochs of all members that want one.

        Args:
            passes: one per member; None leaves the member as it is.
        """
        if self._inputs is None:
            self._inputs = self._no_inputs(next(each for each in passes if each is not None).samples)
            self._state.stopped.fill_(False)  # which makes the memory that a graph is to use
            self._replayed.capture()  # no step is active yet
        schedule = _Schedule.of(passes, self._config.minibatch_size, self._rows, self._device)
        self._take_in(passes)
        told = []
        for first in range(0, schedule.count, self._chunk):
            count = min(self._chunk, schedule.count - first)
            schedule.put(first, count, self._inputs)
            if self._device.type == "cuda":
                self._replayed()
            else:
                self._make_steps(count)
            told.append(self._state.told[:count].clone())
        places, own = self._kept()
        torch._foreach_copy_(own, places)
        found = torch.cat(told).cpu()  # the only wait for the device
        stopped, rolled_back = self._state.stopped.tolist(), self._state.rolled_back.tolist()
        return [
            None if each is None else _steps_of(each, found[:, index], stopped[index], rolled_back[index])
            for index, each in enumerate(passes)
        ]

    # --- what is launched for a step, and captured on a GPU ----------------------------------------------------------

    def _make_steps(self, count: int) -> None:
        """Make the first `count` of the steps in `_inputs`."""
        inputs = self._inputs
        assert inputs is not None
        members, width = len(self._members), self._config.minibatch_size
        places = inputs.places[:count].view(-1)
        columns = [
            column.index_select(0, places).view(count, members, width, *column.shape[1:]) for column in inputs.columns
        ]
        columns.append(inputs.weights)
        for step in range(count):
            self._make_step(step, [column[step] for column in columns])

    def _make_step(self, index: int, columns: Sequence[Tensor]) -> None:
        """Make step `index` on minibatches [M, B, ...], of the members that have one and have not stopped."""
        inputs, state = self._inputs, self._state
        assert inputs is not None
        live = inputs.active[index] & ~state.stopped
        begins = inputs.begins[index]
        state.before.copy_(torch.where(begins[:, None], state.vector, state.before))
        with torch.enable_grad():
            gradient, terms = self._gradient(state.vector, *columns, None, None, *inputs.of_objective)
        norms = gradient.norm(dim=1)
        if self._config.max_grad_norm > 0:
            gradient = gradient * (self._config.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)[:, None]
        now = Stepped(state.vector, state.mean, state.square, state.steps)
        after = adam_step(now, gradient, inputs.rates, self._settings)
        for old, new in zip(now, after, strict=True):
            old.copy_(torch.where(live if old.ndim == 1 else live[:, None], new, old))
        for total, column in ((state.kl_sum, KL_SUM), (state.samples, SAMPLES)):
            total.copy_(torch.where(begins, 0.0, total) + terms[:, column])
        state.told[index] = torch.cat((terms, norms[:, None], live[:, None].to(terms.dtype)), dim=1)
        self._look(live & inputs.ends[index])

    def _look(self, due: Tensor) -> None:
        """Stop the members whose KL is too large where `due` [M]; roll the steps of the part back where it broke."""
        inputs, state = self._inputs, self._state
        assert inputs is not None
        kl = state.kl_sum / state.samples
        stops = due & (kl > inputs.limits)
        breaks = stops & (kl > inputs.broken)
        state.vector.copy_(torch.where(breaks[:, None], state.before, state.vector))
        state.stopped.logical_or_(stops)
        state.rolled_back.logical_or_(breaks)

    # --- what goes in and comes out --------------------------------------------------------------------------------

    @cached_property
    def _settings(self) -> AdamSettings:
        group = self._members[0].optimizer.param_groups[0]
        return AdamSettings(
            group["betas"], group["eps"], group["weight_decay"], group["decoupled_weight_decay"], group["maximize"]
        )

    @cached_property
    def _state(self) -> _State:
        members, device = len(self._members), self._device
        vectors = torch.zeros((4, members, len(self._members[0].vector)), device=device)
        numbers = torch.zeros((3, members), device=device)
        flags = torch.zeros((2, members), dtype=torch.bool, device=device)
        return _State(
            vector=vectors[0],
            mean=vectors[1],
            square=vectors[2],
            before=vectors[3],
            steps=numbers[0],
            kl_sum=numbers[1],
            samples=numbers[2],
            stopped=flags[0],
            rolled_back=flags[1],
            told=torch.zeros((self._chunk, members, len(TERMS) + 2), device=device),
        )

    def _no_inputs(self, samples: Samples) -> _Inputs:
        """Return memory for inputs, in which no step is active."""
        members, steps, device = len(self._members), self._chunk, self._device
        width = self._config.minibatch_size
        flags = torch.zeros((3, steps, members), dtype=torch.bool, device=device)
        numbers = torch.zeros((3, members), dtype=torch.float64, device=device)
        return _Inputs(
            columns=tuple(
                torch.zeros((members * self._rows, *column.shape[1:]), dtype=column.dtype, device=device)
                for column in _columns(samples)
            ),
            places=torch.zeros((steps, members * width), dtype=torch.int64, device=device),
            weights=torch.zeros((steps, members, width), device=device),
            active=flags[0],
            begins=flags[1],
            ends=flags[2],
            rates=numbers[0],
            limits=numbers[1],
            broken=numbers[2],
            of_objective=tuple(torch.stack([each.detach()] * members) for each in self._members[0].inputs),
        )

    def _take_in(self, passes: Sequence[Pass | None]) -> None:
        """Bring parameters, optimizers, samples and bounds of all members to where steps read them."""
        inputs, state = self._inputs, self._state
        assert inputs is not None
        for index, (member, each) in enumerate(zip(self._members, passes, strict=True)):
            if each is not None:
                first = index * self._rows
                for column, rows in zip(inputs.columns, _columns(each.samples), strict=True):
                    column[first : first + len(rows)] = rows
            for column, number in zip(inputs.of_objective, member.inputs, strict=True):
                column[index] = number
        places, own = self._kept()
        torch._foreach_copy_(places, own)
        stoppings = [None if each is None else each.stopping for each in passes]
        told = [
            [float(member.optimizer.param_groups[0]["lr"]) for member in self._members],
            [math.inf if each is None else each.limit for each in stoppings],
            [math.inf if each is None else each.broken for each in stoppings],
        ]
        for place, values in zip((inputs.rates, inputs.limits, inputs.broken), told, strict=True):
            place.copy_(on_its_way(torch.tensor(values, dtype=torch.float64), self._device))
        state.stopped.copy_(on_its_way(torch.tensor([each is None for each in passes]), self._device))
        state.rolled_back.fill_(False)

    def _kept(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return (rows of `_state`, the members' own tensors) that hold the same."""
        state = self._state
        places, own = [], []
        for index, member in enumerate(self._members):
            adam = adam_state(member.optimizer, member.vector)
            places += [state.vector[index], state.mean[index], state.square[index], state.steps[index]]
            own += [member.vector.detach(), adam["exp_avg"], adam["exp_avg_sq"], adam["step"]]
        return places, own


@dataclass(frozen=True)
class _Schedule:
    """The steps of an epoch, with the columns of `_Inputs` of the same names.

    `count` is the number of the steps that the member with the most has.
    """

    count: int
    places: Tensor
    weights: Tensor
    active: Tensor
    begins: Tensor
    ends: Tensor

    @classmethod
    def of(cls, passes: Sequence[Pass | None], width: int, rows: int, device: torch.device) -> _Schedule:
        """Return the steps of all passes on `device`; minibatches have `width` places, the last of which may weigh 0.

        Args:
            rows: by how much the rows of a member lie behind those of the one before.
        """
        count = max(len(each.order.sizes) for each in passes if each is not None)
        places = torch.zeros((count, len(passes), width), dtype=torch.int64, device=device)
        weights = torch.zeros((count, len(passes), width), device=device)
        flags = torch.zeros((3, count, len(passes)), dtype=torch.bool)
        columns = torch.arange(width, device=device)
        for index, each in enumerate(passes):
            if each is None:
                continue
            made, parts = len(each.order.sizes), _parts(each)
            sizes, order = on_its_way(each.order.sizes, device), on_its_way(each.order.places, device)
            used = columns < sizes[:, None]
            chosen = torch.where(used, (sizes.cumsum(0) - sizes)[:, None] + columns, 0)
            places[:made, index] = order[chosen] + index * rows
            weights[:made, index] = used.float()
            ends = parts.cumsum(0)
            for flag, steps in zip(flags, (torch.arange(made), ends - parts, ends - 1), strict=True):
                flag[steps, index] = True
        return cls(count, places.flatten(1), weights, *on_its_way(flags, device))

    def put(self, first: int, count: int, inputs: _Inputs) -> None:
        """Fill `inputs` with `count` steps from `first` on; what comes after them is not active."""
        for field in fields(self)[1:]:
            part: Tensor = getattr(self, field.name)[first : first + count]
            getattr(inputs, field.name)[:count] = part
        inputs.active[count:] = False


def on_its_way(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the processor on `device`, without waiting until it is there."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _columns(samples: Samples) -> list[Tensor]:
    """Return the columns that minibatches are gathered from: all but weights, which follow from the schedule."""
    columns = [column for column in samples[:WEIGHTS] if isinstance(column, Tensor)]
    assert len(columns) == WEIGHTS, "images take another path"
    return columns


def _parts(each: Pass) -> Tensor:
    """Return the numbers [K] of minibatches in the parts that are looked at."""
    return each.order.sizes.new_tensor([len(each.order.sizes)]) if each.stopping is None else each.stopping.parts


def _steps_of(each: Pass, told: Tensor, stopped: bool, rolled_back: bool) -> Steps:
    """Return what an epoch did for a member, of what `_State.told` says of its steps [steps, terms + 2]."""
    made = int(told[:, -1].sum())
    ends = [0, *_parts(each).cumsum(0).tolist()]
    last = next(end - first for first, end in pairwise(ends) if end == made)
    return Steps(told[:made, : len(TERMS)], told[:made, len(TERMS)], stopped, last, last if rolled_back else 0)
