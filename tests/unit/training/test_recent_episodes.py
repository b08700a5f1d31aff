"""train/return is that of the latest episodes only."""

from __future__ import annotations

from ppolab.learning.rollout import Episode
from ppolab.training.recent_episodes import RecentEpisodes


def with_ends(*ends: int) -> RecentEpisodes:
    """Return episodes whose return is the number of steps at which they ended."""
    recent = RecentEpisodes()
    for end in ends:
        recent.add(end, [Episode(float(end), 10)])
    return recent


def test_there_are_no_metrics_before_the_first_episode_ends() -> None:
    assert RecentEpisodes().metrics(1000, ["total"]) == {}


def test_episodes_of_before_the_last_fifth_are_left_out() -> None:
    recent = with_ends(100, 700, 800, 1000)
    assert recent.metrics(1000) == {"train/return": 900.0, "train/length": 10.0}
    assert recent.metrics(5000)["train/return"] == 1000.0  # at least those that ended last
    assert [episode.total_reward for episode in recent] == [100.0, 700.0, 800.0, 1000.0]


def test_at_most_a_hundred_count() -> None:
    recent = RecentEpisodes()
    recent.add(1000, (Episode(float(index), 1) for index in range(150)))
    assert recent.metrics(1000)["train/return"] == 99.5  # of 50 to 149


def test_entries_of_info_are_means_over_the_episodes_that_have_them() -> None:
    recent = RecentEpisodes()
    recent.add(1000, [Episode(1.0, 1, {"total": 2.0}), Episode(1.0, 1, {"total": 4.0, "other": 1.0}), Episode(1.0, 1)])
    assert recent.metrics(1000, ["total", "none"]) == {"train/return": 1.0, "train/length": 1.0, "env/total": 3.0}


def test_a_checkpoint_keeps_when_they_ended_and_earlier_ones_count_as_new() -> None:
    state = with_ends(100, 1000).state()
    later, earlier = RecentEpisodes(), RecentEpisodes()
    later.load_state(state, 1000)
    assert later.metrics(1000)["train/return"] == 1000.0
    earlier.load_state({"recent_episodes": state["recent_episodes"]}, 1000)
    assert earlier.metrics(1000)["train/return"] == 550.0


def test_what_is_cleared_does_not_count() -> None:
    recent = with_ends(100)
    recent.clear()
    assert recent.metrics(100) == {} and list(recent) == []
