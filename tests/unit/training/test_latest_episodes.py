"""train/return is that of the latest episodes only."""

from __future__ import annotations

from helpers import make_env
from small_runs import small_config

from ppolab.agents.policy import build_policy
from ppolab.learning.rollout import Episode
from ppolab.training.build import build_module
from ppolab.training.module import OnPolicyModule


def a_module() -> OnPolicyModule:
    config = small_config()
    env = make_env(config)
    return build_module(config, env, build_policy(config, env))


def test_episodes_of_before_the_last_fifth_are_left_out() -> None:
    module = a_module()
    module.recent_episodes.extend((ended, Episode(float(ended), 10)) for ended in (100, 700, 800, 1000))
    module.steps = 1000
    assert module._episode_metrics() == {"train/return": 900.0, "train/length": 10.0}
    module.steps = 5000
    assert module._episode_metrics()["train/return"] == 1000.0  # at least those that ended last


def test_at_most_a_hundred_count() -> None:
    module = a_module()
    module.recent_episodes.extend((1000, Episode(float(index), 1)) for index in range(150))
    module.steps = 1000
    assert module._episode_metrics()["train/return"] == 99.5  # of 50 to 149


def test_a_checkpoint_keeps_when_they_ended_and_earlier_ones_count_as_new() -> None:
    module, other, earlier = a_module(), a_module(), a_module()
    module.recent_episodes.extend([(100, Episode(1.0, 1)), (1000, Episode(3.0, 1))])
    module.steps = 1000
    state = module.state(barrier=False)
    other.start(state)
    assert other._episode_metrics()["train/return"] == 3.0
    earlier.start({key: value for key, value in state.items() if key != "recent_ends"})
    assert earlier._episode_metrics()["train/return"] == 2.0
