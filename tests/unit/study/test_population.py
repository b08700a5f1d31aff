"""Who copies whom in a population, and with which settings: literal scores, and properties of what is drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppolab.study.population import (
    FACTORS,
    FAILED,
    Ended,
    MemberSegment,
    NoneLeft,
    Population,
    begins,
    drawn,
    explored,
    fate,
    generator,
    sources,
)
from ppolab.study.search_space import Choice, Interval, Scalar, SearchSpace

LOG = Interval(1e-5, 1e-2, log=True)
SPACE = SearchSpace(
    {
        "optimizer.lr": LOG,
        "clip": Interval(0.05, 0.4),
        "gamma": Interval(0.9, 0.999),
        "epochs": Interval(2, 20, integer=True),
        "minibatch_size": Choice(("64", "32", "128")),
        "target_kl": Choice(("null", "0.01", "0.02")),
    }
)
MIDDLE: Mapping[str, Scalar] = {
    "optimizer.lr": 1e-3, "clip": 0.2, "gamma": 0.99, "epochs": 10, "minibatch_size": "64", "target_kl": "null",
}  # fmt: skip


def population(**changes: float) -> Population:
    settings = {"size": 8, "interval": 1000, "total_steps": 4500, "quantile": 0.25, "resample": 0.0, "seed": 0}
    return Population(**(settings | changes))  # type: ignore[arg-type]


def ended(scores: Mapping[int, float]) -> dict[int, Ended]:
    return {member: Ended(score, 100 + member, f"run-{member}", MIDDLE) for member, score in scores.items()}


# --- intervals -------------------------------------------------------------------------------------------------------


def test_the_last_interval_is_shorter_where_the_steps_are_no_multiple() -> None:
    found = population()
    assert found.generations == 5
    assert [found.end(generation) for generation in range(5)] == [1000, 2000, 3000, 4000, 4500]


@pytest.mark.parametrize(("size", "quantile", "exchanged"), [(8, 0.25, 2), (8, 0.5, 4), (7, 0.5, 3), (2, 0.25, 1)])
def test_how_many_copy(size: int, quantile: float, exchanged: int) -> None:
    assert population(size=size, quantile=quantile).exchanged == exchanged


# --- exploit ---------------------------------------------------------------------------------------------------------


def test_the_worst_copy_the_best() -> None:
    scores = {0: 5.0, 1: 1.0, 2: 7.0, 3: 3.0, 4: 8.0, 5: 2.0, 6: 6.0, 7: 4.0}
    fates = {member: fate(member, scores, population()) for member in scores}
    assert [member for member, found in fates.items() if found == "copies"] == [1, 5]
    assert sources(scores, population()) == [4, 2]


def test_who_has_outdone_enough_goes_on_before_the_others_have_ended() -> None:
    scores = {0: 5.0, 1: 1.0, 3: 3.0}
    assert fate(0, scores, population()) == "goes on"
    assert fate(3, scores, population()) == "open"
    assert fate(1, scores, population()) == "open"
    assert fate(2, scores, population()) == "open", "it has not ended"


@given(st.lists(st.sampled_from([FAILED, 0.0, 1.0, 2.0, 3.0]), min_size=2, max_size=7), st.randoms())
def test_a_fate_does_not_depend_on_who_ends_first(values: list[float], random: object) -> None:
    settings, last = population(size=len(values), quantile=0.4), dict(enumerate(values))
    final = {member: fate(member, last, settings) for member in last}
    assert "open" not in final.values()
    order = list(last)
    random.shuffle(order)  # type: ignore[attr-defined]
    known: dict[int, float] = {}
    for member in order:
        known[member] = last[member]
        for other in known:
            assert fate(other, known, settings) in ("open", final[other])
    copied = sources(last, settings)
    assert all(final[member] == "goes on" for member in copied), "what is copied does not copy"
    assert bool(copied) == any(value != FAILED for value in values)


def test_all_that_failed_copy_however_many() -> None:
    scores = {0: FAILED, 1: FAILED, 2: FAILED, 3: 1.0}
    settings = population(size=4, quantile=0.25)
    assert [fate(member, scores, settings) for member in scores] == ["copies"] * 3 + ["goes on"]
    assert sources(scores, settings) == [3]


def test_of_equal_scores_the_lower_number_is_better() -> None:
    scores = dict.fromkeys(range(4), 500.0)
    settings = population(size=4)
    assert [fate(member, scores, settings) for member in scores] == ["goes on"] * 3 + ["copies"]
    assert sources(scores, settings) == [0]


# --- explore ---------------------------------------------------------------------------------------------------------


def moves(key: str, **changes: Scalar) -> set[Scalar]:
    """What a setting becomes, numbers with six digits."""
    random = np.random.default_rng(0)
    found = [explored({**MIDDLE, **changes}, SPACE, 0.0, random)[key] for _ in range(60)]
    return {round(value, 6) if isinstance(value, float) else value for value in found}


def test_numbers_are_multiplied_by_one_of_two_factors() -> None:
    assert FACTORS == (0.8, 1.2)
    assert moves("optimizer.lr") == {8e-4, 1.2e-3}
    assert moves("clip") == {0.16, 0.24}


def test_of_a_discount_the_distance_from_1_is_multiplied() -> None:
    assert moves("gamma") == {0.988, 0.992}


def test_whole_numbers_stay_whole_and_move() -> None:
    assert moves("epochs") == {8, 12}
    assert moves("epochs", epochs=2) == {2, 3}, "2 times 1.2 is nearer to 2"
    assert all(type(value) is int for value in moves("epochs"))


def test_listed_numbers_move_to_a_neighbour_by_size() -> None:
    assert moves("minibatch_size") == {"32", "128"}
    assert moves("minibatch_size", minibatch_size="32") == {"32", "64"}


def test_of_other_choices_another_is_taken() -> None:
    assert moves("target_kl") == {"0.01", "0.02"}


def test_bounds_are_kept() -> None:
    assert moves("optimizer.lr", **{"optimizer.lr": 1e-2}) == {8e-3, 1e-2}
    assert moves("clip", clip=0.05) == {0.05, 0.06}


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0]))
def test_what_is_drawn_lies_in_the_space(seed: int, resample: float) -> None:
    random = np.random.default_rng(seed)
    distributions = SPACE.distributions()
    values = drawn(SPACE, random)
    for _ in range(3):
        assert values.keys() == SPACE.dimensions.keys()
        for key, value in values.items():
            assert distributions[key]._contains(distributions[key].to_internal_repr(value))
        values = explored(values, SPACE, resample, random)


def test_logarithmic_intervals_are_drawn_by_their_logarithm() -> None:
    random = np.random.default_rng(1)
    values = [drawn(SearchSpace({"optimizer.lr": LOG}), random)["optimizer.lr"] for _ in range(2000)]
    shares = [sum(low <= value < 10 * low for value in values) / 2000 for low in (1e-5, 1e-4, 1e-3)]  # type: ignore[operator]
    assert shares == [pytest.approx(1 / 3, abs=0.04)] * 3


def test_steps_of_an_interval_are_kept() -> None:
    space = SearchSpace({"clip": Interval(0.1, 0.35, step=0.1)})
    random = np.random.default_rng(2)
    values = {round(float(drawn(space, random)["clip"]), 6) for _ in range(50)}  # type: ignore[arg-type]
    assert values == {0.1, 0.2, 0.3}
    assert {round(float(explored({"clip": 0.2}, space, 0.0, random)["clip"]), 6) for _ in range(50)} == {0.1, 0.3}  # type: ignore[arg-type]


def test_resampling_draws_from_the_whole_space() -> None:
    random = np.random.default_rng(3)
    rates = [float(str(explored(MIDDLE, SPACE, 1.0, random)["optimizer.lr"])) for _ in range(100)]
    assert min(rates) < 1e-4
    assert len(set(rates)) == 100


# --- lineage ---------------------------------------------------------------------------------------------------------


def test_a_member_begins_with_given_settings_and_draws_the_others() -> None:
    first = begins(0, 0, {}, SPACE, population(), [{"clip": 0.3}])
    second = begins(1, 0, {}, SPACE, population(), [{"clip": 0.3}])
    assert first is not None
    assert second is not None
    assert first[0] == MemberSegment(0, 0, 1000)
    assert first[1]["clip"] == 0.3
    assert second[1]["clip"] != 0.3
    assert first[1].keys() == second[1].keys() == SPACE.dimensions.keys()


def test_a_member_goes_on_with_its_own_settings() -> None:
    scores = ended({0: 3.0, 1: 2.0, 2: 1.0, 3: 0.0})
    found = begins(0, 2, scores, SPACE, population(size=4))
    assert found == (MemberSegment(0, 2, 3000, 100, "run-0"), MIDDLE)


def test_a_copy_has_the_state_of_a_better_one_and_settings_near_its() -> None:
    scores = ended({0: 3.0, 1: 2.0, 2: 1.0, 3: 0.0})
    found = begins(3, 2, scores, SPACE, population(size=4))
    assert found is not None
    assert found[0] == MemberSegment(3, 2, 3000, 100, "run-0", copied_from=0)
    assert all(found[1][key] != value for key, value in MIDDLE.items())


def test_a_copy_is_certain_only_once_all_have_ended() -> None:
    assert begins(3, 2, ended({0: 3.0, 1: 2.0, 3: 0.0}), SPACE, population(size=4)) is None
    assert begins(0, 2, ended({0: 3.0, 1: 2.0, 3: 0.0}), SPACE, population(size=4)) is not None


def test_a_population_ends_where_all_have_failed() -> None:
    with pytest.raises(NoneLeft):
        begins(0, 1, ended(dict.fromkeys(range(8), FAILED)), SPACE, population())


def test_each_place_draws_numbers_of_its_own_and_always_the_same() -> None:
    places = list(itertools.product(range(3), range(3)))
    firsts = [float(generator(population(), *place).random()) for place in places]
    assert firsts == [float(generator(population(), *place).random()) for place in places]
    assert len(set(firsts)) == len(places)
    assert firsts[0] != float(generator(population(seed=1), 0, 0).random())
    assert all(math.isfinite(value) for value in firsts)
