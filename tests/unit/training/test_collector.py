"""What a rollout holds, against a plain retelling of the same episodes."""

from __future__ import annotations

import itertools

import numpy as np
import probe_envs  # noqa: F401
import pytest
import torch
from helpers import make_collector, make_env, make_policy, tiny_config
from torch import Tensor

from ppolab.envs import envpool_ids
from ppolab.learning.episode_statistics import EpisodeStatistics
from ppolab.learning.rollout import Episode, Rollout, totals
from ppolab.runtime.process_group import ProcessGroup
from ppolab.training.collector import Collector

LENGTHS = [3, 5, 2]


def collected(rollouts: int = 6, **settings) -> tuple[list[Rollout], object]:
    """Several rollouts of the diary environment, and the policy that made them."""
    config = tiny_config("probe/Diary-v0", env_kwargs={"lengths": LENGTHS}, rollout_steps=8, **settings)
    env = make_env(config)
    policy = make_policy(config, env)
    collector = make_collector(config, env)
    return [collector.collect(policy) for _ in range(rollouts)], policy


def joined(rollouts: list[Rollout], name: str) -> Tensor:
    """One tensor over all rollouts' T rows; observations and values without their last."""
    rows = rollouts[0].rewards.shape[0]
    return torch.cat([getattr(rollout, name)[:rows] for rollout in rollouts])


def test_rows_are_aligned_in_time() -> None:
    rollouts, _ = collected()
    observations, actions, rewards = (joined(rollouts, name) for name in ("observations", "actions", "rewards"))
    following = torch.cat([rollout.observations[1:] for rollout in rollouts])
    valid = joined(rollouts, "valid")
    episode, step, _ = observations.unbind(-1)
    expected = (100 * episode + 10 * step + actions[..., 0]) * valid
    assert rewards.equal(expected)
    assert following[valid][:, 2].equal(actions[valid][:, 0].float())  # what follows a row saw its action
    assert following[valid][:, 1].equal(step[valid] + 1)
    assert (following[~valid][:, 1] == 0).all() and (following[~valid][:, 2] == -1).all()  # a first observation
    assert following[~valid][:, 0].equal(episode[~valid] + 1)


def test_rollouts_continue_where_the_last_one_stopped() -> None:
    rollouts, _ = collected()
    for before, after in itertools.pairwise(rollouts):
        assert after.observations[0].equal(before.observations[-1])


def test_ends_are_where_the_lengths_say_and_of_the_right_kind() -> None:
    rollouts, _ = collected(rollouts=3)
    terminated, truncated = joined(rollouts, "terminated"), joined(rollouts, "truncated")
    valid = joined(rollouts, "valid")
    # 3 steps + reset, 5 + reset, 2 + reset, 3 + reset, 5 + reset, ...; even episodes terminate, odd are truncated
    for env in range(4):
        assert terminated[:, env].nonzero()[:, 0].tolist() == [2, 11, 21]
        assert truncated[:, env].nonzero()[:, 0].tolist() == [8, 15]
        assert (~valid[:, env]).nonzero()[:, 0].tolist() == [3, 9, 12, 16, 22]
    assert sum(totals(rollout).num_steps for rollout in rollouts) == 4 * (24 - 5)


def test_each_episode_is_counted_once_with_its_true_return() -> None:
    rollouts, _ = collected()
    rewards, valid = joined(rollouts, "rewards"), joined(rollouts, "valid")
    ended = joined(rollouts, "terminated") | joined(rollouts, "truncated")
    expected = []
    for t, env in ended.nonzero().tolist():
        start = t
        while start > 0 and valid[start, env] and not ended[start - 1, env]:
            start -= 1
        start += int(not valid[start, env])
        expected.append(Episode(float(rewards[start : t + 1, env].sum()), t + 1 - start))
    assert [episode for rollout in rollouts for episode in rollout.episodes] == expected
    lengths = [episode.length for episode in expected]
    assert lengths[:12] == [3] * 4 + [5] * 4 + [2] * 4
    assert len(expected) == 4 * 11  # in 48 rows episodes end at 2, 8, 11, 15, 21, 24, 28, 34, 37, 41, 47


def test_log_probs_and_values_equal_a_recomputation() -> None:
    rollouts, policy = collected(normalize_observations=True)
    for rollout in rollouts:
        with torch.no_grad():
            for t in range(len(rollout.rewards)):
                parameters, values = policy(rollout.observations[t])
                log_probs = torch.log_softmax(parameters, -1).gather(-1, rollout.actions[t])[:, 0]
                torch.testing.assert_close(rollout.log_probs[t], log_probs)
                torch.testing.assert_close(rollout.values[t], values)
            torch.testing.assert_close(rollout.values[-1], policy.values(rollout.observations[-1]))


def test_actions_follow_the_policy() -> None:
    config = tiny_config("probe/ConstantReward-v0", num_envs=32, rollout_steps=31)
    env = make_env(config)
    policy = make_policy(config, env)
    with torch.no_grad():
        policy.action_head.bias[:] = torch.tensor([0.0, 1.0])
    actions = make_collector(config, env).collect(policy).actions
    assert actions.float().mean().item() == pytest.approx(1 / (1 + np.exp(-1)), abs=4 * 0.5 / 992**0.5)


def test_observations_are_scaled_by_the_statistics_of_the_start() -> None:
    config = tiny_config("probe/Diary-v0", normalize_observations=True)
    env = make_env(config)
    policy = make_policy(config, env)
    collector = make_collector(config, env)
    first = collector.collect(policy)
    policy.observation_scale.merge(first.observation_moments)
    second = collector.collect(policy)
    mean, variance = first.observation_moments.mean, first.observation_moments.variance
    scaled = ((first.observations[-1].double() - mean) / (variance + 1e-8).sqrt()).clamp(-10, 10)
    torch.testing.assert_close(second.observations[0], scaled.float(), rtol=1e-5, atol=1e-5)


def test_moments_are_those_of_the_raw_valid_observations() -> None:
    (rollout, *_), _ = collected(normalize_observations=False)
    seen = rollout.observations[:-1][rollout.valid].double()
    assert rollout.observation_moments.count == len(seen) == totals(rollout).num_steps
    torch.testing.assert_close(rollout.observation_moments.mean, seen.mean(0))
    torch.testing.assert_close(rollout.observation_moments.variance, seen.var(0, correction=0))


def test_return_moments_are_those_of_discounted_sums_within_episodes() -> None:
    rollouts, _ = collected(gamma=0.9)
    sums = np.zeros(4)
    for rollout in rollouts:
        samples = []
        for t in range(len(rollout.rewards)):
            for env in range(4):
                if not rollout.valid[t, env]:
                    sums[env] = 0.0
                    continue
                sums[env] = 0.9 * sums[env] + float(rollout.rewards[t, env])
                samples.append(sums[env])
        assert rollout.return_moments.count == len(samples)
        assert rollout.return_moments.mean.item() == pytest.approx(np.mean(samples))
        assert rollout.return_moments.variance.item() == pytest.approx(np.var(samples))


def test_a_rollout_is_not_overwritten_by_the_next() -> None:
    config = tiny_config("probe/Diary-v0")
    env = make_env(config)
    policy = make_policy(config, env)
    collector = make_collector(config, env)
    rollout = collector.collect(policy)
    names = ("observations", "actions", "rewards", "terminated", "truncated", "valid", "values", "log_probs")
    before = {name: getattr(rollout, name).clone() for name in names}
    collector.collect(policy)
    assert all(getattr(rollout, name).equal(before[name]) for name in names)


def test_collecting_drops_no_units_and_leaves_parameters_alone() -> None:
    config = tiny_config("probe/Diary-v0", **{"model.dropout": 0.5})
    env = make_env(config)
    policy = make_policy(config, env)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.train()
    rollout = make_collector(config, env).collect(policy)
    policy.eval()
    torch.testing.assert_close(rollout.values, policy.values(rollout.observations).detach())
    assert all(value.equal(before[name]) for name, value in policy.state_dict().items())


def test_the_same_generator_collects_the_same_rollout() -> None:
    (first, *_), _ = collected(rollouts=1)
    (second, *_), _ = collected(rollouts=1)
    assert first.actions.equal(second.actions) and first.rewards.equal(second.rewards)


@pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")
def test_envpool_episodes_are_counted_as_gymnasium_s() -> None:
    """CartPole pays 1 per step: return and length must be equal, whatever counts them."""
    for backend in ("envpool", "gymnasium"):
        config = tiny_config("CartPole-v1", rollout_steps=64, **{"env.backend": backend})
        env = make_env(config)
        rollout = make_collector(config, env).collect(make_policy(config, env))
        assert len(rollout.episodes) > 2
        assert all(episode.total_reward == episode.length for episode in rollout.episodes)
        ends = int((rollout.terminated | rollout.truncated).sum())
        assert len(rollout.episodes) == ends
        env.close()


def test_statistics_of_one_environment_by_hand() -> None:
    rewards, ended, valid = np.array([(1.0, 0, 1), (2.0, 0, 1), (4.0, 1, 1), (9.0, 0, 0), (3.0, 1, 1)]).T[..., None]
    together = EpisodeStatistics(1, gamma=0.5).add(rewards, ended == 1, valid == 1)
    assert together[0][:, 0].tolist() == [1.0, 2.5, 5.25, 0.0, 3.0]
    assert together[1] == [Episode(7.0, 3), Episode(3.0, 1)]
    statistics = EpisodeStatistics(1, gamma=0.5)
    parts = [statistics.add(rewards[rows], ended[rows] == 1, valid[rows] == 1) for rows in (slice(0, 2), slice(2, 5))]
    assert np.concatenate([discounted for discounted, _ in parts]).tolist() == together[0].tolist()
    assert [finished for _, finished in parts] == [[], together[1]]


def ends_in_each_rollout(*, stagger: bool, rank: int = 0, size: int = 1) -> list[int]:
    """How many of this process's share of eight environments, whose episodes have 40 steps, end in rollouts of 10."""
    config = tiny_config("Pendulum-v1", num_envs=8 // size, env_kwargs={"max_episode_steps": 40})
    env = make_env(config)
    generator = torch.Generator().manual_seed(0)
    collector = Collector(env, 10, config.gamma, generator, ProcessGroup(rank, size), stagger=stagger)
    policy, ends = make_policy(config, env), []
    for _ in range(9):
        rollout = collector.collect(policy)
        ends.append(int(rollout.truncated.sum()))
        assert all(episode.length == 40 for episode in rollout.episodes), "what was cut short is not counted"
    env.close()
    return ends


def test_environments_that_are_staggered_do_not_end_together() -> None:
    """Those that are begun anew after steps 5 and 10 are so at the end of the first rollout, and so on up to 35."""
    assert ends_in_each_rollout(stagger=False) == [0, 0, 0, 8, 0, 0, 0, 0, 8]  # a reset takes a row of its own
    assert ends_in_each_rollout(stagger=True) == [0, 0, 0, 2, 2, 2, 2, 1, 1]


def test_two_processes_stagger_the_environments_of_one() -> None:
    assert ends_in_each_rollout(stagger=True, rank=0, size=2) == [0, 0, 0, 1, 2, 1, 0, 0, 1]
    assert ends_in_each_rollout(stagger=True, rank=1, size=2) == [0, 0, 0, 1, 0, 1, 2, 1, 0]
