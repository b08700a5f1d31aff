"""Decide in population based training who copies whom, and with which settings: functions of scores and seeds alone.

Jaderberg et al. 2017 (arXiv:1711.09846): members train in intervals. After each, the worst copy the state of better
ones ("exploit", by truncation selection) and go on with settings that differ a little ("explore").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ppolab.study.search_space import Choice, Dimension, Interval, Scalar, SearchSpace

FACTORS = (0.8, 1.2)
"""What a number is multiplied by, as in the paper's section 4.1."""
BELOW_ONE = ("gamma", "gae_lambda")
"""Settings just below 1 whose distance from 1 is multiplied: 0.8 times 0.99 would be another kind of discount."""
FAILED = -math.inf
"""Score of a member whose training raised."""

Fate = Literal["goes on", "copies", "open"]
"""What becomes of a member after a generation; open: that depends on members which have not ended it."""


@dataclass(frozen=True)
class Population:
    """Describe a population.

    Attributes:
        size: members. interval: environment steps between two comparisons. total_steps: of each member.
        quantile: share that copies, and share that is copied. resample: probability that a setting of a copy is drawn
            anew. seed: of all drawings here.
    """

    size: int
    interval: int
    total_steps: int
    quantile: float
    resample: float
    seed: int

    @property
    def generations(self) -> int:
        """Intervals that a member trains."""
        return math.ceil(self.total_steps / self.interval)

    @property
    def exchanged(self) -> int:
        """How many copy others after a generation in which none fails; never more than half of them."""
        return max(1, int(self.quantile * self.size))

    def end(self, generation: int) -> int:
        """Return the environment steps at which a generation ends; a member stops with the iteration that passes it."""
        return min((generation + 1) * self.interval, self.total_steps)


@dataclass(frozen=True)
class MemberSegment:
    """Describe what a member trains in one generation.

    Attributes:
        until: environment steps of the run at which it ends.
        parent: number of the trial whose last checkpoint it starts from, and folder: that trial's run; None begins a
            new run. copied_from: the member whose trial that was, if another.
    """

    member: int
    generation: int
    until: int
    parent: int | None = None
    folder: str | None = None
    copied_from: int | None = None

    @property
    def name(self) -> str:
        """The name of its folder and of its tracking run."""
        return f"{member_name(self.member)}-generation-{self.generation:03d}"


def member_name(member: int) -> str:
    """Return the name of a member's tracking run."""
    return f"member-{member:02d}"


def lineage(segment: MemberSegment) -> dict[str, str]:
    """Return the tags of a segment's tracking run: which it is, and where it comes from."""
    tags = {"member": segment.member, "generation": segment.generation, "until": segment.until}
    origin = {"parent.trial": segment.parent, "copied_from": segment.copied_from}
    return {key: str(value) for key, value in {**tags, **origin}.items() if value is not None}


# --- exploit ---------------------------------------------------------------------------------------------------------


def fate(member: int, scores: Mapping[int, float], population: Population) -> Fate:
    """Return what becomes of a member after a generation, as soon as that is certain.

    The answer, once it is not "open", does not depend on the order in which members end: one that has outdone enough
    others will not be among the worst, whatever those still training reach. So it need not wait for them.

    Args:
        scores: of the members that have ended the generation, higher is better; FAILED for those that failed.
    """
    if member not in scores:
        return "open"
    outdone = sum(_rank(other, scores) < _rank(member, scores) for other in scores)
    if scores[member] != FAILED and outdone >= population.exchanged:
        return "goes on"
    return "copies" if len(scores) == population.size else "open"


def sources(scores: Mapping[int, float], population: Population) -> list[int]:
    """Return the members that may be copied after a generation that all have ended, the best first.

    None of them copies, itself. Empty if all have failed.
    """
    order = sorted(scores, key=lambda member: _rank(member, scores), reverse=True)
    return [member for member in order if scores[member] != FAILED][: population.exchanged]


def _rank(member: int, scores: Mapping[int, float]) -> tuple[float, int]:
    """Return what members are sorted by; of those with equal scores, the one with the lower number is better."""
    return scores[member], -member


# --- explore ---------------------------------------------------------------------------------------------------------


def generator(population: Population, generation: int, member: int) -> np.random.Generator:
    """Return the generator of what is drawn for a member at the start of a generation, and for nothing else."""
    return np.random.default_rng(np.random.SeedSequence(population.seed, spawn_key=(generation, member)))


def drawn(space: SearchSpace, random: np.random.Generator) -> dict[str, Scalar]:
    """Return settings that are drawn from the whole search space, each from its uniform distribution."""
    return {key: _drawn(dimension, random) for key, dimension in space.dimensions.items()}


def explored(
    values: Mapping[str, Scalar], space: SearchSpace, resample: float, random: np.random.Generator
) -> dict[str, Scalar]:
    """Return settings near `values`, inside the search space: each is moved, or drawn anew with probability `resample`.

    A number is multiplied by one of FACTORS; a whole number moves by one at least, where it can. Of numbers that are
    listed a neighbour is taken, and of other choices any.
    """
    changed: dict[str, Scalar] = {}
    for key, dimension in space.dimensions.items():
        anew = random.random() < resample
        moved = _drawn(dimension, random) if anew else _moved(key, values[key], dimension, random)
        changed[key] = moved
    return changed


def _drawn(dimension: Dimension, random: np.random.Generator) -> Scalar:
    if isinstance(dimension, Choice):
        return dimension.values[int(random.integers(len(dimension.values)))]
    low, high = dimension.low, dimension.high
    if dimension.log:
        return _inside(math.exp(random.uniform(math.log(low), math.log(high))), dimension)
    raster = _raster(dimension)
    if raster is None:
        return _inside(random.uniform(low, high), dimension)
    return _inside(low + raster * int(random.integers(math.floor((high - low) / raster + 1e-9) + 1)), dimension)


def _moved(key: str, value: Scalar, dimension: Dimension, random: np.random.Generator) -> Scalar:
    if isinstance(dimension, Choice):
        return _neighbour(str(value), dimension, random)
    assert isinstance(value, int | float)
    factor = FACTORS[int(random.integers(len(FACTORS)))]
    moved = 1.0 - (1.0 - value) * factor if key in BELOW_ONE else value * factor
    inside, raster = _inside(moved, dimension), _raster(dimension)
    if raster is not None and inside == value:
        inside = _inside(value + math.copysign(raster, moved - value), dimension)
    return inside


def _neighbour(value: str, choice: Choice, random: np.random.Generator) -> str:
    others = [other for other in choice.values if other != value]
    if not others:
        return value
    try:
        place = sorted(choice.values, key=float)
    except ValueError:  # no numbers, which have no order
        return others[int(random.integers(len(others)))]
    moved = place.index(value) + (-1, 1)[int(random.integers(2))]
    return place[min(max(moved, 0), len(place) - 1)]


def _raster(dimension: Interval) -> float | None:
    """Return the distance between two values that a dimension has; None if it has all between its bounds."""
    return dimension.step or (1.0 if dimension.integer else None)


def _inside(value: float, dimension: Interval) -> int | float:
    """Return the value of the dimension that is nearest to `value`."""
    low, high, raster = dimension.low, dimension.high, _raster(dimension)
    if raster is not None:
        most = math.floor((high - low) / raster + 1e-9)
        value = low + raster * min(max(round((value - low) / raster), 0), most)
    value = min(max(value, low), high)
    return int(value) if dimension.integer else float(value)


# --- lineage ---------------------------------------------------------------------------------------------------------


def begins(
    member: int,
    generation: int,
    earlier: Mapping[int, Ended],
    space: SearchSpace,
    population: Population,
    given: Sequence[Mapping[str, Scalar]] = (),
) -> tuple[MemberSegment, dict[str, Scalar]] | None:
    """Return what a member trains in a generation, and its settings; None as long as that is not certain.

    Args:
        earlier: what has ended of the generation before, by member. given: settings of the first members.

    Raises:
        NoneLeft: every member failed in the generation before.
    """
    random = generator(population, generation, member)
    until = population.end(generation)
    if generation == 0:
        start = given[member] if member < len(given) else {}
        return MemberSegment(member, 0, until), {**drawn(space, random), **start}
    scores = {other: ended.score for other, ended in earlier.items()}
    verdict = fate(member, scores, population)
    if verdict == "open":
        return None
    if verdict == "goes on":
        own = earlier[member]
        return MemberSegment(member, generation, until, own.trial, own.folder), dict(own.values)
    best = sources(scores, population)
    if not best:
        raise NoneLeft
    source = best[int(random.integers(len(best)))]
    copied = earlier[source]
    segment = MemberSegment(member, generation, until, copied.trial, copied.folder, source)
    return segment, explored(copied.values, space, population.resample, random)


class NoneLeft(Exception):
    """All members failed in one generation, so there is nothing to go on from."""


@dataclass(frozen=True)
class Ended:
    """Hold how a member ended a generation: its score, higher is better or FAILED; its trial, run and settings."""

    score: float
    trial: int
    folder: str
    values: Mapping[str, Scalar]
