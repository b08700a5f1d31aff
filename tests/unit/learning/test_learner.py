"""The update against a textbook PPO written out here with ordinary modules, torch.distributions and Adam."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from gradients import BOX, DISCRETE, INPUTS, config_with, gradient_of, needs_compiler, new_policy, random_batch
from gymnasium import spaces
from helpers import make_learner, random_rollout, textbook_advantages
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

from ppolab.config.schema import Config
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.epoch import minibatches, shuffled
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.interface import UpdateStats
from ppolab.learning.kl_early_stopping import KL_TOLERANCE, broken_kl
from ppolab.learning.objective import Samples
from ppolab.learning.rollout import Rollout


def updated(
    config: Config, rollout: Rollout, policy: ActorCritic, rewards: Tensor | None = None, *, native: bool = False
) -> tuple[Tensor, UpdateStats]:
    """(all parameters after one update of a copy of `policy`, its statistics)."""
    learner, flat = make_learner(copy.deepcopy(policy), config, native=native)
    stats = learner.update(rollout, rollout.rewards if rewards is None else rewards)
    return flat.vector.detach().clone(), stats


# --- a textbook ------------------------------------------------------------------------------------------------------


def textbook_log_probs(policy: ActorCritic, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    parameters, values = policy(observations)
    if policy.log_std is not None:
        mean, log_std = parameters.chunk(2, -1)
        distribution = Independent(Normal(mean, log_std.exp()), 1)
        return distribution.log_prob(actions), distribution.entropy(), values
    distribution = Categorical(logits=parameters)
    return distribution.log_prob(actions[..., 0]), distribution.entropy(), values


def textbook_step(policy: ActorCritic, optimizer: torch.optim.Optimizer, batch: Samples, config: Config) -> None:
    """One minibatch of PPO with ordinary parameters; the padding is cut off first."""
    real = batch.weights > 0
    observations, actions, _, old_log_probs, old_values, advantages, returns = (part[real] for part in batch[:7])
    if config.normalize_advantages:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_probs, entropy, values = textbook_log_probs(policy, observations, actions)
    ratio = (log_probs - old_log_probs).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - config.clip, 1 + config.clip) * advantages).mean()
    value_loss = (values - returns) ** 2
    if config.algorithm["value_clip"] is not None:
        limit = config.algorithm["value_clip"]
        clipped = old_values + (values - old_values).clamp(-limit, limit)
        value_loss = torch.max(value_loss, (clipped - returns) ** 2)
    loss = -surrogate + config.value_coef * 0.5 * value_loss.mean() - config.entropy_coef * entropy.mean()
    optimizer.zero_grad()
    loss.backward()
    if config.max_grad_norm > 0:
        nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
    optimizer.step()


def textbook_update(config: Config, rollout: Rollout, policy: ActorCritic) -> Tensor:
    policy = copy.deepcopy(policy)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.optimizer["lr"], eps=config.optimizer["eps"])
    generator = torch.Generator().manual_seed(0)
    values = rollout.values
    for epoch in range(config.epochs):
        if epoch > 0 and config.recompute_advantages:
            values = policy(rollout.observations)[1].detach()
        advantages = textbook_advantages(rollout, values, config)
        valid = rollout.valid
        samples = Samples(
            rollout.observations[:-1][valid], rollout.actions[valid], rollout.parameters[valid],
            rollout.log_probs[valid], rollout.values[:-1][valid], advantages[valid], (advantages + values[:-1])[valid],
            torch.ones(int(valid.sum())),
        )  # fmt: skip
        for batch in drawn_minibatches(samples, config.minibatch_size, generator):
            textbook_step(policy, optimizer, batch, config)
    return torch.cat([parameter.detach().reshape(-1) for parameter in policy.parameters()])


def drawn_minibatches(samples: Samples, size: int, generator: torch.Generator) -> list[Samples]:
    """Of one process that has all samples."""
    owners = torch.zeros(len(samples.weights), dtype=torch.int64)
    return list(minibatches(samples, shuffled(owners, 0, size, generator), size))


VARIANTS = {
    "defaults": {},
    "discrete": {"entropy_coef": 0.01},
    "shared trunk": {"model.trunk": "shared"},
    "no advantage normalisation": {"normalize_advantages": False},
    "no gradient clipping": {"max_grad_norm": 0.0},
    "value clipping": {"algorithm.value_clip": 0.1},
    "entropy bonus": {"entropy_coef": 0.1},
    "advantages kept": {"recompute_advantages": False},
    "not fused": {"optimizer.fused": False},
}


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)], ids=["eager", "native"])
@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_equal_a_textbook_update(name: str, native: bool) -> None:
    config = config_with(epochs=3, **VARIANTS[name])
    policy = new_policy(config, DISCRETE if name == "discrete" else BOX)
    rollout = random_rollout(policy, INPUTS, values=False)
    before = torch.cat([parameter.detach().reshape(-1) for parameter in policy.parameters()])
    result, stats = updated(config, rollout, policy, native=native)
    assert stats.steps >= 9
    assert (result - before).abs().max() > 1e-3
    torch.testing.assert_close(result, textbook_update(config, rollout, policy), rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("defaults", "discrete", "not fused")])
def test_each_variant_differs_from_the_defaults(name: str) -> None:
    plain, variant = config_with(epochs=3), config_with(epochs=3, **VARIANTS[name])
    results = []
    for config in (plain, variant):
        policy = new_policy(config)
        rollout = random_rollout(policy, INPUTS, values=False)
        results.append(updated(config, rollout, policy)[0])
    assert results[0].shape != results[1].shape or (results[0] - results[1]).abs().max() > 1e-5


# --- minibatches -----------------------------------------------------------------------------------------------------


def numbered(count: int) -> Samples:
    numbers = torch.arange(count).float()
    return Samples(
        numbers[:, None], numbers[:, None], numbers[:, None], numbers, numbers, numbers, numbers, torch.ones(count)
    )


@given(st.integers(1, 200), st.integers(2, 64), st.integers(0, 2**32 - 1))
def test_every_sample_is_used_exactly_once_in_nearly_equal_minibatches(count: int, size: int, seed: int) -> None:
    batches = drawn_minibatches(numbered(count), size, torch.Generator().manual_seed(seed))
    assert len(batches) == -(-count // size)
    used = torch.cat([batch.values[batch.weights == 1] for batch in batches])
    assert sorted(used.tolist()) == list(range(count))
    sizes = [int(batch.weights.sum()) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    for batch in batches:
        assert len(batch.weights) == size and set(batch.weights.tolist()) <= {0.0, 1.0}
        assert batch.observations[:, 0].equal(batch.values) and batch.returns.equal(batch.advantages)  # rows stay rows


@given(st.integers(4, 200), st.integers(2, 64), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_processes_divide_the_minibatches_that_one_would_make(count: int, size: int, ranks: int, seed: int) -> None:
    owners = (torch.arange(count) % ranks)[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
    together = [batch.values[batch.weights == 1] for batch in drawn_minibatches(
        numbered(count), size, torch.Generator().manual_seed(seed)
    )]  # fmt: skip
    parts: list[list[Tensor]] = []
    for rank in range(ranks):
        order = shuffled(owners, rank, size, torch.Generator().manual_seed(seed))
        assert order.totals.tolist() == [len(batch) for batch in together]
        mine = Samples(*(part[owners == rank] for part in numbered(count) if part is not None))
        parts.append([batch.values[batch.weights == 1] for batch in minibatches(mine, order, size)])
        assert order.sizes.tolist() == [len(part) for part in parts[-1]]
    for index, batch in enumerate(together):
        assert sorted(batch.tolist()) == sorted(torch.cat([part[index] for part in parts]).tolist())


def test_order_is_random_and_follows_the_generator() -> None:
    generator = torch.Generator().manual_seed(3)
    orders = [torch.cat([batch.values for batch in drawn_minibatches(numbered(32), 8, generator)]) for _ in range(2)]
    again = torch.cat([b.values for b in drawn_minibatches(numbered(32), 8, torch.Generator().manual_seed(3))])
    assert not orders[0].equal(orders[1]) and not orders[0].equal(torch.arange(32).float())
    assert again.equal(orders[0])


@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["Box", "Discrete"])
def test_padding_has_no_influence_on_gradient_and_statistics(space: spaces.Space) -> None:
    config = config_with(entropy_coef=0.01)
    policy = new_policy(config, space)
    flat = flatten_parameters(policy)
    gradient = gradient_of(policy, flat, config)
    batch, other = random_batch(policy, 24, 0)[:8], random_batch(policy, 24, 1)[:8]
    padding = batch[-1] == 0
    changed = [torch.where(padding.view(-1, *[1] * (a.dim() - 1)), b, a) for a, b in zip(batch, other, strict=True)]
    without = [part[~padding] for part in batch]
    expected = gradient(flat.vector.detach(), *Samples(*without))
    for parts in (batch, changed):
        for ours, theirs in zip(gradient(flat.vector.detach(), *Samples(*parts)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


# --- early stopping --------------------------------------------------------------------------------------------------


def kl_after_each_epoch(epochs: int, **settings) -> list[float]:
    """The KL of every epoch of one and the same update, by stopping it ever later."""
    result = []
    for count in range(1, epochs + 1):
        config = config_with(epochs=count, target_kl=None, **settings)
        policy = new_policy(config)
        _, stats = updated(config, random_rollout(policy, INPUTS), policy)
        assert stats.epochs == count
        result.append(stats.kl)
    return result


def test_an_update_ends_after_the_epoch_that_exceeded_the_target() -> None:
    settings = {"optimizer.lr": 3e-3}
    kls = kl_after_each_epoch(4, **settings)
    assert kls == sorted(kls) and kls[0] > 0
    for last in range(1, 4):
        threshold = (kls[last - 1] + kls[last - 2]) / 2 if last > 1 else kls[0] / 2
        config = config_with(epochs=4, target_kl=threshold / KL_TOLERANCE, **settings)
        policy = new_policy(config)
        _, stats = updated(config, random_rollout(policy, INPUTS), policy)
        assert stats.epochs == last
        assert stats.kl == pytest.approx(kls[last - 1])
        assert stats.steps == last * -(-int(random_rollout(policy, INPUTS).valid.sum()) // 8)


def test_the_threshold_is_one_and_a_half_times_the_target() -> None:
    kl = kl_after_each_epoch(1)[0]
    for factor, epochs in ((1.01, 2), (0.99, 1)):
        config = config_with(epochs=2, target_kl=factor * kl / 1.5)
        policy = new_policy(config)
        stats = updated(config, random_rollout(policy, INPUTS), policy)[1]
        assert stats.epochs == epochs


def test_an_epoch_is_looked_at_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at the first look that finds a KL above the threshold, with the steps made until then."""
    monkeypatch.setattr("ppolab.learning.learner.KL_SAMPLES", 16)
    settings = {"epochs": 3, "optimizer.lr": 3e-3}
    policy = new_policy(config_with(**settings))
    rollout = random_rollout(policy, INPUTS, steps=16)
    steps_made = []
    for threshold in (1e-9, 0.02, 1e9):
        config = config_with(target_kl=threshold / KL_TOLERANCE, **settings)
        parameters, stats = updated(config, rollout, policy)
        steps_made.append(stats.steps)
        assert stats.epochs == pytest.approx(stats.steps / (-(-int(rollout.valid.sum()) // 8)))
        assert (stats.kl > threshold) == (threshold < 1e9)
    per_epoch = steps_made[-1] // 3
    assert 2 <= steps_made[0] <= 3 < per_epoch
    assert per_epoch < steps_made[1] < 3 * per_epoch
    unstopped = config_with(target_kl=None, **settings)
    torch.testing.assert_close(updated(unstopped, rollout, policy)[0], parameters, rtol=0, atol=0)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)], ids=["eager", "native"])
def test_steps_that_moved_the_policy_much_too_far_are_rolled_back(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the parameters before the look; a KL that is only too large ends the update and keeps its steps."""
    monkeypatch.setattr("ppolab.learning.learner.KL_SAMPLES", 16)
    settings = {"epochs": 3, "optimizer.lr": 3e-2}
    policy = new_policy(config_with(**settings))
    rollout = random_rollout(policy, INPUTS, steps=16)
    before = torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])
    kept, stats = updated(config_with(target_kl=1e-9, **settings), rollout, policy, native=native)
    assert 1.5e-9 < stats.kl < 0.2 and stats.epochs > 0 and not torch.equal(kept, before)
    monkeypatch.setattr("ppolab.learning.learner.broken_kl", lambda target: stats.kl / 2)
    undone, again = updated(config_with(target_kl=1e-9, **settings), rollout, policy, native=native)
    assert again.kl == stats.kl and again.steps == stats.steps and again.epochs == 0
    torch.testing.assert_close(undone, before, rtol=0, atol=0)


def test_much_too_far_is_ten_times_the_target_but_never_less_than_a_fifth() -> None:
    assert [broken_kl(target) for target in (1e-9, 0.02, 0.05)] == [0.2, 0.2, 0.5]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 50), st.integers(0, 1))
def test_the_looks_at_an_epoch_share_its_minibatches(count: int, size: int, samples: int, rank: int) -> None:
    order = shuffled(torch.arange(count) % 2, rank, size, torch.Generator().manual_seed(0))
    parts = list(order.split(samples))
    for name in ("places", "sizes", "totals"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(order, name))
    assert all(part.sizes.sum() == len(part.places) for part in parts)
    assert max(len(part.totals) for part in parts) - min(len(part.totals) for part in parts) <= 1
    assert len(parts) == max(1, min(len(order.totals), count // samples))


def test_without_a_target_no_update_ends_early() -> None:
    config = config_with(epochs=6, target_kl=None, **{"optimizer.lr": 0.1})
    policy = new_policy(config)
    stats = updated(config, random_rollout(policy, INPUTS), policy)[1]
    assert stats.kl > 0.5
    assert stats.epochs == 6


# --- what must and must not matter -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recompute", [True, False])
def test_masked_rows_never_influence_the_result(recompute: bool) -> None:
    config = config_with(epochs=3, recompute_advantages=recompute)
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS, steps=16, ends=0.3)
    masked = ~rollout.valid
    after_termination = torch.zeros_like(masked)
    after_termination[1:] = rollout.terminated[:-1]  # after a truncation the final observation must count
    assert masked.sum() > 5 and after_termination.sum() > 2 and not (after_termination & ~masked).any()

    def replaced(tensor: Tensor, where: Tensor) -> Tensor:
        result = tensor.clone()
        rows = result[: len(where)]
        rows[where] = 100 * torch.randn(rows[where].shape)
        return result

    changed = dataclasses.replace(
        rollout,
        observations=replaced(rollout.observations, after_termination),
        values=replaced(rollout.values, after_termination),
        actions=replaced(rollout.actions, masked),
        parameters=replaced(rollout.parameters, masked),
        log_probs=replaced(rollout.log_probs, masked),
        rewards=replaced(rollout.rewards, masked),
    )
    before, after = updated(config, rollout, policy), updated(config, changed, policy)
    assert after[0].equal(before[0])
    assert after[1] == before[1]


def test_final_observations_of_truncated_episodes_matter() -> None:
    config = config_with()
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS, steps=16, ends=0.3)
    final = torch.zeros_like(rollout.values, dtype=torch.bool)
    final[1:] = rollout.truncated
    changed = dataclasses.replace(rollout, values=rollout.values + final)
    assert not updated(config, changed, policy)[0].equal(updated(config, rollout, policy)[0])


def test_recomputed_advantages_matter_from_the_second_epoch_on() -> None:
    for epochs, same in ((1, True), (2, False)):
        results = []
        for recompute in (True, False):
            config = config_with(epochs=epochs, recompute_advantages=recompute)
            policy = new_policy(config)
            results.append(updated(config, random_rollout(policy, INPUTS), policy)[0])
        assert results[0].equal(results[1]) == same


def test_the_scaled_rewards_are_what_is_learnt_from() -> None:
    config = config_with()
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    blank = dataclasses.replace(rollout, rewards=torch.zeros_like(rollout.rewards))
    assert updated(config, blank, policy, rollout.rewards)[0].equal(updated(config, rollout, policy)[0])
    assert not updated(config, blank, policy)[0].equal(updated(config, rollout, policy)[0])


def test_statistics_of_the_first_step_are_those_of_the_collecting_policy() -> None:
    """One minibatch, one epoch: the ratio is 1 everywhere."""
    config = config_with(minibatch_size=32, epochs=1)
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS, ends=0.0)
    _, stats = updated(config, rollout, policy)
    advantages = textbook_advantages(rollout, rollout.values, config)
    returns = advantages + rollout.values[:-1]
    assert (stats.epochs, stats.steps) == (1, 1)
    assert stats.kl == pytest.approx(0.0, abs=1e-6)
    assert stats.clip_fraction == 0.0
    assert stats.policy_loss == pytest.approx(0.0, abs=1e-6)  # the mean of standardized advantages
    assert stats.value_loss == pytest.approx(0.5 * advantages.square().mean().item(), rel=1e-4)
    assert stats.entropy == pytest.approx(2 * 1.4189385, rel=1e-5)
    assert stats.explained_variance == pytest.approx(1 - (advantages.var() / returns.var()).item(), rel=1e-4)


def test_the_gradient_norm_is_reported_before_clipping() -> None:
    norms = []
    for limit in (0.0, 1e-3):
        config = config_with(epochs=1, max_grad_norm=limit, minibatch_size=32)
        policy = new_policy(config)
        norms.append(updated(config, random_rollout(policy, INPUTS), policy)[1].gradient_norm)
    assert norms[0] == pytest.approx(norms[1]) and norms[0] > 0.01


def test_dropout_is_on_while_updating_and_off_for_recomputed_values() -> None:
    config = config_with(epochs=2, **{"model.dropout": 0.3})
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(updated(config, rollout, policy)[0])
    assert results[0].equal(results[1])
    assert not results[0].equal(results[2])
