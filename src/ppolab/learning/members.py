"""Make the updates of several runs at once, whose settings differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack

from ppolab.learning.actor_critic import training
from ppolab.learning.device_epoch import DeviceEpoch, Member
from ppolab.learning.epoch import Pass
from ppolab.learning.gradient import compiled_on_first_call, gradient_of_members, worth_compiling
from ppolab.learning.interface import UpdateStats
from ppolab.learning.learner import Learner
from ppolab.learning.native.update import Steps


def epoch_of(learners: Sequence[Learner]) -> DeviceEpoch:
    """Return what makes the epochs of all learners together."""
    context = learners[0].context
    gradient = gradient_of_members(context.policy, context.flat, learners[0].objective, len(learners))
    if worth_compiling(context):
        gradient = compiled_on_first_call(gradient, replayed=False)
    members = [Member(each.context.flat.vector, each.context.optimizer, each.objective.inputs) for each in learners]
    return DeviceEpoch(gradient, members, context.config)


Passes = Generator[Pass, Steps | None, UpdateStats]
"""An update under way, see `Learner.updating`."""


def updated_together(
    epoch: DeviceEpoch, learners: Sequence[Learner], updates: Sequence[Passes | None]
) -> list[UpdateStats | None]:
    """Make the updates of the learners that have one, with the passes of all at once; return the statistics of each.

    Args:
        epoch: see `epoch_of`.
    """
    under_way = [None if each is None else _Update(each) for each in updates]
    made: list[Steps | None] = [None] * len(learners)
    with ExitStack() as modes:
        for learner in learners:
            modes.enter_context(training(learner.context.policy))
        while True:
            wanted = [None if each is None else each.went_on(did) for each, did in zip(under_way, made, strict=True)]
            if all(each is None for each in wanted):
                break
            made = epoch.of_members(wanted)
    return [None if each is None else each.stats for each in under_way]


class _Update:
    """One learner's update under way."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._stats: UpdateStats | None = None

    def went_on(self, steps: Steps | None) -> Pass | None:
        """Return the next pass that it wants, after one that did `steps`; None at the beginning, and at the end."""
        if self._stats is not None:
            return None
        try:
            return self._passes.send(steps)
        except StopIteration as end:
            self._stats = end.value
            return None

    @property
    def stats(self) -> UpdateStats:
        """What the update did, once it has ended."""
        assert self._stats is not None
        return self._stats
